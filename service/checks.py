"""What settings must be beyond their types: files that can be read, addresses, keys. For settings.py.

Each check raises ValueError with a sentence that holds nothing of the value: a file may be a
secret, and a URL may carry one. Addresses of Redis are redis_url.py's.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def files_in(folder: Path) -> list[Path]:
    """The files of a folder, none if there is no folder."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ValueError(_forbidden(folder, error)) from error


def check_readable(file: Path) -> None:
    """That a file is text in UTF-8, if it is there."""
    try:
        if stat.S_ISREG(file.stat().st_mode):  # what comes through a pipe can be read only once
            file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ValueError(_forbidden(file, error)) from error
    except UnicodeDecodeError:
        # Without its cause, which quotes the content.
        raise ValueError(f"{file} cannot be read: it is no text in UTF-8; write it anew") from None


def _forbidden(path: Path, error: OSError) -> str:
    return (
        f"{path} cannot be read ({error.strerror}): make it, and the folder that it is in,"
        f" readable for the user with the id {os.geteuid()}"
    )
