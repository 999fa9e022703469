"""The embedded store: it starts, keeps what it was given, is shared, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from service.store import embedded
from service.store.embedded import EmbeddedStore, EmbeddedStoreError
from tests.support.running import ROOT, alive
from tests.support.waiting import eventually


class Opened:
    """Starts stores and closes what is open at the end of a test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, directory: Path) -> EmbeddedStore:
        store = embedded.start(directory)
        assert store is not None
        self._stack.callback(store.close, wait=10)
        return store


@pytest.fixture
def opened() -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(stack)


def client(store: EmbeddedStore) -> redis.Redis:
    return redis.Redis.from_url(store.url)


def server_pid(directory: Path) -> int:
    return int((directory / "store.pid").read_text())


def test_its_folder_is_for_its_user_alone_even_one_that_was_open_before(
    opened: Opened, tmp_path: Path
) -> None:
    opened(tmp_path / "made" / "data")
    was_open = tmp_path / "open"
    was_open.mkdir()
    was_open.chmod(0o755)
    opened(was_open)
    long = tmp_path / ("x" * 120)  # its socket is in a folder of its own
    listener = embedded._socket_path(long)
    listener.parent.chmod(0o777)
    opened(long)
    for folder in (tmp_path / "made" / "data", was_open, long, listener.parent):
        assert folder.stat().st_mode & 0o777 == 0o700, folder


def test_a_store_is_private_durable_and_never_evicts(opened: Opened, tmp_path: Path) -> None:
    store = opened(tmp_path / "data")
    with client(store) as connection:
        assert connection.ping()
        for name, value in {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "port": "0",
        }.items():
            assert connection.config_get(name) == {name: value}
    assert store.url.startswith("unix://")
    assert not store.shared


def test_data_survives_a_restart(opened: Opened, tmp_path: Path) -> None:
    store = opened(tmp_path)
    with client(store) as connection:
        connection.set("key", "value")
    pid = server_pid(tmp_path)
    store.close(wait=10)
    assert not alive(pid)
    with client(opened(tmp_path)) as connection:
        assert connection.get("key") == b"value"


def test_two_users_share_one_store_and_the_last_one_ends_it(opened: Opened, tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert (first.shared, second.shared) == (False, True)
    assert first.url == second.url
    pid = server_pid(tmp_path)
    first.close()
    with client(second) as connection:
        connection.set("key", "value")
    assert alive(pid)
    second.close()
    eventually(lambda: not alive(pid))


def test_a_user_that_comes_while_the_store_stops_gets_a_new_one(opened: Opened, tmp_path: Path) -> None:
    first = opened(tmp_path)
    pid = server_pid(tmp_path)
    first.close()
    with client(opened(tmp_path)) as connection:
        assert connection.ping()
    eventually(lambda: not alive(pid) or server_pid(tmp_path) == pid)


def test_a_killed_user_leaves_no_server(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from service.store import embedded;"
        "store = embedded.start(Path(sys.argv[1])); print(store.url, flush=True); time.sleep(60)"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert user.stdout is not None
    with user.stdout as output:
        assert output.readline()
    pid = server_pid(tmp_path)
    user.kill()
    user.wait()
    eventually(lambda: not alive(pid))


def test_a_killed_server_is_started_again_with_its_data(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    pid = server_pid(tmp_path)
    with client(store) as connection:
        connection.set("key", "value")
    eventually(lambda: _age(pid) > embedded.CRASH_SECONDS, within=embedded.CRASH_SECONDS + 5)
    os.kill(pid, signal.SIGKILL)

    def value() -> object:
        try:
            with client(store) as connection:
                return connection.get("key")
        except redis.ConnectionError:
            return None

    assert eventually(value) == b"value"
    assert server_pid(tmp_path) != pid


def _age(pid: int) -> float:
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - started / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", ["with space", "p%41th", "long-" + "x" * 120])
def test_any_directory_will_do(opened: Opened, tmp_path: Path, name: str) -> None:
    first, second = opened(tmp_path / name), opened(tmp_path / name)
    with client(first) as connection:
        assert connection.set("key", "value")
    with client(second) as connection:
        assert connection.get("key") == b"value"


def test_a_directory_that_cannot_be_used_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "data" / "start.lock").mkdir(parents=True)
    for name in ("file", "data"):
        with pytest.raises(
            EmbeddedStoreError, match=r"^The store's directory .* cannot be used: .*\. Set CHAT_"
        ):
            embedded.start(tmp_path / name)


def test_a_store_that_cannot_read_its_data_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(EmbeddedStoreError, match=r"did not start: .* Move the directory away"):
        embedded.start(tmp_path)


def test_without_a_server_there_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_server", lambda: None)
    assert embedded.start(tmp_path) is None


def test_the_wheel_brings_a_server() -> None:
    server = embedded.find_server()
    assert server is not None
    assert server.name == "valkey-server"
