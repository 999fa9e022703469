"""The peers as processes: how each is installed and started, and how it is asked.

Each gets the model of the benchmark, a Redis where it wants one, and one process that does its work.
Nothing here measures.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.clients.matrix.environments import MADE, install_python
from tests.load import wire
from tests.load.clients import Client, GroqClient, Tally
from tests.load.generator import Ask
from tests.load.processes import Bench
from tests.support.node import install as install_node
from tests.support.redis import free_port
from tests.support.waiting import eventually

_HERE: Final = Path(__file__).parent
_LITELLM: Final = _HERE / "litellm"
_RESUMABLE_STREAM: Final = _HERE / "resumable_stream"
# LiteLLM imports for ten seconds on an idle machine.
_START_SECONDS: Final = 90


@dataclass(frozen=True)
class Peer:
    """`pids` are the processes that its CPU time is of: its own, and "redis" where it uses one."""

    name: str
    port: int
    ask: Ask
    pids: Mapping[str, int]


def chat(key: str, tokens: int, rate: int, tally: Tally) -> Client:
    return Client(wire.chat_request(key, wire.wish(tokens, rate)), tokens, rate, tally)


def completions(path: str, tokens: int, rate: int, tally: Tally) -> Client:
    return GroqClient(wire.groq_request(wire.wish(tokens, rate), path), tokens, rate, tally)


def ours(bench: Bench) -> Iterator[Peer]:
    """The processes that every benchmark has."""
    through = partial(completions, wire.COMPLETIONS)
    yield Peer("the raw relay", bench.relay, through, {"peer": bench.pids["relay"]})
    if bench.nginx is not None:
        yield Peer("nginx", bench.nginx, through, {"peer": bench.pids["nginx"]})
    redis = bench.pids["redis"]
    asked = partial(chat, bench.key)
    yield Peer("the service", bench.service, asked, {"peer": bench.pids["service"], "redis": redis})
    obvious = {"peer": bench.pids["baseline"], "redis": redis}
    yield Peer("the obvious implementation", bench.baseline, asked, obvious)


@contextlib.contextmanager
def resumable_stream(bench: Bench) -> Iterator[Peer]:
    """A node server with Vercel's package."""
    install_node(str(shutil.which("npm")), _RESUMABLE_STREAM)
    port = free_port()
    command = [str(shutil.which("node")), "server.mjs", str(port), f"http://127.0.0.1:{bench.upstream}"]
    environment = {"REDIS_URL": bench.store.url}
    with _running(command, _RESUMABLE_STREAM, environment) as process:
        eventually(lambda: _listens(port), within=_START_SECONDS)
        pids = {"peer": process.pid, "redis": bench.pids["redis"]}
        yield Peer(f"resumable-stream {_locked_by_npm()}", port, partial(chat, ""), pids)


@contextlib.contextmanager
def litellm(bench: Bench) -> Iterator[Peer]:
    """LiteLLM's proxy with one worker, without a database."""
    install_python("peer-litellm", _LITELLM / "requirements.txt")
    port = free_port()
    config = bench.directory / "litellm.yaml"
    config.write_text(
        "model_list:\n- model_name: openai/gpt-oss-120b\n  litellm_params:\n"
        f"    model: groq/openai/gpt-oss-120b\n    api_base: http://127.0.0.1:{bench.upstream}/openai/v1\n"
        "    api_key: gsk_bench\n"
    )
    program = str(MADE / "peer-litellm" / "bin" / "litellm")
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # Its table of prices is the one that it brings: it asks the network for nothing.
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    version = re.findall(r"^litellm==(\S+)", (_LITELLM / "requirements.txt").read_text(), re.M)[0]
    with _running(command, bench.directory, environment) as process:
        eventually(lambda: _listens(port), within=_START_SECONDS)
        through = partial(completions, "/v1/chat/completions")
        yield Peer(f"LiteLLM {version}", port, through, {"peer": process.pid})


INSTALLED: Final[tuple[Callable[[Bench], contextlib.AbstractContextManager[Peer]], ...]] = (
    resumable_stream,
    litellm,
)


def _locked_by_npm() -> str:
    text = (_RESUMABLE_STREAM / "package-lock.json").read_text()
    return str(json.loads(text)["packages"]["node_modules/resumable-stream"]["version"])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _running(
    command: list[str], directory: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(directory)}
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**path, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
