"""Starts the tests of one planted fault after the other in a fork that has imported what all of them need.

    python -m tests.mutants.starter ROOT     then a line of JSON for each step on stdin, and one on stdout

A process of pytest takes two seconds of the processor until its first test, most of it for libraries that no
fault is planted in. What is of the project, and what pytest rewrites, is imported in the fork. A step is
{words, out, seconds}: the words behind `python`, the file for what is printed, and for how long it may run.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import signal
import sys
import time
import traceback
from typing import Any, Final

import orjson

_LIBRARIES: Final = (
    "pytest",
    "fakeredis",
    "fastapi",
    "fastapi.testclient",
    "groq",
    "httpx",
    "hiredis",
    "hypothesis.strategies",
    "jwt",
    "jwt.algorithms",
    "lupa.lua51",
    "msgspec",
    "openai",
    "prometheus_client",
    "pydantic_settings",
    "pytest_asyncio.plugin",
    "slipcover.pytest_plugin",
    "pytest_randomly",
    "pytest_timeout",
    "redis.asyncio",
    "redis.asyncio.cluster",
    "slowapi",
    "structlog",
    "uvicorn",
    "uvloop",
    "xdist.plugin",
    "_hypothesis_pytestplugin",
    "_pytest.assertion.rewrite",
    "cryptography.x509",
    "cryptography.hazmat.primitives.serialization",
)
# After SIGINT: then pytest stops the servers that it has started.
_END_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.02
# The exit status where not a test but this has failed.
_BROKEN: Final = 70


def main(root: str) -> None:
    os.chdir(root)
    os.environ["PYTHONPATH"] = root
    sys.path[:] = [root, *(path for path in sys.path if path not in ("", root, os.environ.get("PWD")))]
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "service")]:
        del sys.modules[name]
    for line in sys.stdin.buffer:
        step = orjson.loads(line)
        begin = time.monotonic()
        status = _run(step)
        told = {"status": status, "seconds": time.monotonic() - begin}
        sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
        sys.stdout.buffer.flush()


def _run(step: dict[str, Any]) -> int:
    """The exit status; 124 where its time was over."""
    child = os.fork()
    if child == 0:
        _be(step)
    deadline, late = time.monotonic() + step["seconds"], False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return 124 if late else os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL if late else signal.SIGINT)
            deadline, late = time.monotonic() + _END_SECONDS, True
        time.sleep(_LOOK_SECONDS)


def _be(step: dict[str, Any]) -> None:
    """The process of a step, to its end."""
    out = os.open(step["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(out, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = _BROKEN
    try:
        sys.argv = [step["words"][1], *step["words"][2:]]
        runpy.run_module(step["words"][1], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - the top of this process
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
