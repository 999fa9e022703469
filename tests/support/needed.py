"""What a test needs and a machine may lack: a program. Missing is a loud skip, with CI=true a failure."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

# Debian keeps servers where a user's PATH does not look.
_PLACES = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def program(*names: str) -> str:
    """The path of the first of these programs that is there."""
    for name in names:
        found = shutil.which(name, path=_PLACES)
        if found:
            return found
    lacking(f"needs {' or '.join(names)}, which this machine has not (.ci/run installs it)")


def lacking(message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
