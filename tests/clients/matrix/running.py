"""One client, run as a process of its own and asked its questions; what differs from what is expected."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.clients.matrix.environments import CLASSES, command
from tests.clients.matrix.scenarios import MODEL, REFUSED_WORDS, expected
from tests.clients.matrix.table import Client

# Five questions and the import of the library: 7 to 30 s of LiteLLM, 88 s on a machine with a load of 20.
SECONDS: Final = 180
Told = dict[str, dict[str, Any]]


async def ask(client: Client, url: str, home: Path) -> Told:
    """What the client tells of each scenario; `home` is a folder for what libraries write down."""
    given = {"url": url, "model": MODEL, "options": dict(client.options), "questions": client.asked()}
    process = await asyncio.create_subprocess_exec(
        *command(client),
        json.dumps(given),
        env=_environment(home),
        cwd=home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, f"{client.name}, {process.returncode}:\n{err.decode()}"
    told: Told = json.loads(out.decode().rpartition("\n")[2])
    return told


def differences(client: Client, told: Told) -> dict[str, Any]:
    """By scenario what the client told, where it is not what is expected of it."""
    return {name: told.get(name) for name in client.asked() if not _as_expected(client, name, told)}


def _as_expected(client: Client, name: str, told: Told) -> bool:
    shown = dict(told.get(name) or {})
    error = shown.pop("error", None)
    wanted: Mapping[str, Any] = client.told.get(name, expected()[name])
    if shown != wanted:
        return False
    if name not in ("cut", "refused"):
        return error is None
    kind, words = (client.cut, client.cut_words) if name == "cut" else (client.refused, REFUSED_WORDS)
    return error is not None and error["kind"] == kind and words in error["message"]


def _environment(home: Path) -> dict[str, str]:
    """No keys and no settings of the machine's user; libraries that would fetch something do not."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "NO_PROXY": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LLM_USER_PATH": str(home),
        "OPENAI_API_KEY": "none",
        "CLASSPATH": str(CLASSES),
    }
