"""The life of the processes: starting, draining, replacing, dying. With a stand-in application."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from service.store import embedded
from tests.support.running import Running, alive, call, children
from tests.support.waiting import eventually


class Starter(Protocol):
    def __call__(self, command: str, **settings: str) -> Running: ...


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = embedded.start(tmp_path_factory.mktemp("store"))
    assert store is not None
    yield store.url
    store.close(wait=5)


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Iterator[Starter]:
    with contextlib.ExitStack() as stack:

        def start(command: str, **settings: str) -> Running:
            given = {"CHAT_REDIS_URL": redis_url, "GROQ_BASE_URL": "http://127.0.0.1:9", **settings}
            return stack.enter_context(Running(command, tmp_path, **given))

        yield start


class Traffic:
    """Requests without a pause, on kept and on new connections, from threads; counts what failed."""

    def __init__(self, service: Running, clients: int = 6) -> None:
        self.service = service
        self.answers: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number % 2 == 0,)) for number in range(clients)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _client(self, keeps: bool) -> None:
        connection = self.service.connect()
        while not self._stop.is_set():
            try:
                connection.request("GET", "/pid")
                response = connection.getresponse()
                body = response.read().decode()
                self.answers[body if response.status == 200 else str(response.status)] += 1
                if not keeps or response.will_close:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self._stop.wait(0.005)
        connection.close()


# -- draining


@pytest.mark.parametrize("command", ["run", "serve"])
def test_sigterm_drains_in_order(service: Starter, command: str) -> None:
    running = service(command, CHAT_DRAIN_DELAY_SECONDS="2")
    with running.stream("/stream?n=50&gap=0.1") as stream:
        assert stream.readline() == b"0\n"
        told = time.monotonic()
        running.signal(signal.SIGTERM)
        eventually(lambda: "drain" in running.facts())
        assert time.monotonic() - told < 1.0
        assert running.get("/state") == (503, "draining"), "the listener is open for the delay"
        eventually(running.refuses, within=5)
        assert "shutdown" not in running.facts(), "the stream still runs"
        assert stream.read().endswith(b"49\nend\n")
    assert running.wait() == 0
    assert running.facts() == ["startup", "drain", "shutdown"]
    assert running.refuses()


@pytest.mark.parametrize("command", ["run", "serve"])
def test_requests_beyond_the_deadline_are_cancelled_before_the_lifespan_ends(
    service: Starter, command: str
) -> None:
    running = service(command, CHAT_DRAIN_SECONDS="1")
    with running.stream("/hang") as stream:
        assert stream.readline() == b"hanging\n"
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        with pytest.raises(http.client.IncompleteRead):
            stream.read()
    assert running.facts() == ["startup", "drain", "cancelled", "shutdown"]


def test_responses_during_a_drain_close_their_connections(service: Starter) -> None:
    running = service("run", CHAT_DRAIN_DELAY_SECONDS="1")
    connection = running.connect()
    with contextlib.closing(connection):
        connection.request("GET", "/state")
        response = connection.getresponse()
        response.read()
        assert not response.will_close
        running.signal(signal.SIGTERM)
        eventually(lambda: "drain" in running.facts())
        connection.request("GET", "/state")
        response = connection.getresponse()
        assert response.status == 503
        assert response.will_close


def test_sigquit_to_the_master_ends_at_once(service: Starter) -> None:
    """Not at the end of a drain."""
    running = service("serve", CHAT_WORKERS="2", CHAT_DRAIN_SECONDS="60")
    with running.stream("/hang") as stream:
        stream.readline()
        running.signal(signal.SIGQUIT)
        assert running.wait(within=30) == 0
    assert running.workers() == []


def test_sigquit_to_a_worker_ends_it_at_once_and_another_comes(service: Starter) -> None:
    running = service("serve", CHAT_DRAIN_SECONDS="60")
    (worker,) = running.workers()
    with running.stream("/hang") as stream:
        stream.readline()
        os.kill(worker, signal.SIGQUIT)
        eventually(lambda: not alive(worker), within=30)
    eventually(lambda: running.workers() not in ([], [worker]))
    assert running.get("/pid")[0] == 200


def test_workers_drain_and_end_when_their_master_is_killed(service: Starter) -> None:
    running = service("serve", CHAT_WORKERS="2")
    workers = running.workers()
    with running.stream("/stream?n=15&gap=0.1") as stream:
        stream.readline()
        running.signal(signal.SIGKILL)
        running.wait()
        assert stream.read().endswith(b"end\n")
    eventually(lambda: not any(alive(pid) for pid in workers), within=6)
    assert running.facts().count("shutdown") == 2
    assert running.refuses()


# -- replacing


def test_a_reload_fails_no_request(service: Starter) -> None:
    running = service("serve", CHAT_WORKERS="2")
    before = running.workers()
    with Traffic(running) as traffic:
        running.signal(signal.SIGHUP)
        eventually(lambda: not any(alive(pid) for pid in before), within=15)
        count = traffic.answers.total()
        eventually(lambda: traffic.answers.total() > count + 50)
    assert traffic.failures == []
    assert {*traffic.answers} <= {str(pid) for pid in (*before, *running.workers())}
    assert len(running.workers()) == 2


def test_a_reload_lets_streams_finish_and_a_sigterm_meanwhile_is_obeyed(service: Starter) -> None:
    running = service("serve")
    (old,) = running.workers()
    with running.stream("/stream?n=40&gap=0.1") as stream:
        stream.readline()
        running.signal(signal.SIGHUP)
        eventually(lambda: running.get("/pid")[1] != str(old))
        running.signal(signal.SIGTERM)
        eventually(lambda: any(pid != old for _, pid, fact in running.journal() if fact == "drain"), within=3)
        assert stream.read().endswith(b"39\nend\n")
    assert running.wait() == 0


def test_a_reload_that_cannot_boot_leaves_the_old_workers(service: Starter, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    running = service("serve", CHAT_WORKERS="2", STANDIN_BROKEN=str(broken))
    before = running.workers()
    broken.touch()
    running.signal(signal.SIGHUP)
    eventually(lambda: running.logged("worker.boot_failed"), within=10)
    assert running.workers() == before
    assert running.get("/pid")[0] == 200
    broken.unlink()
    running.signal(signal.SIGHUP)
    eventually(lambda: not any(alive(pid) for pid in before), within=15)
    assert running.get("/pid")[0] == 200


def test_a_reload_keeps_the_address_whatever_the_settings_say(service: Starter, tmp_path: Path) -> None:
    running = service("serve", CHAT_WORKERS="2")
    before = running.workers()
    (tmp_path / ".env").write_text("CHAT_HOST=192.0.2.1\n")  # of no machine: to bind it would fail
    running.signal(signal.SIGHUP)
    eventually(lambda: not any(alive(pid) for pid in before), within=15)
    (kept,) = running.logged("reload.address_kept")
    assert (kept["address"], kept["level"]) == ("127.0.0.1:0", "error")
    assert running.get("/pid")[0] == 200


def test_a_single_worker_is_recycled_without_a_failed_request(service: Starter) -> None:
    running = service("serve", CHAT_MAX_REQUESTS="100")
    with Traffic(running) as traffic:
        eventually(lambda: len(traffic.answers) >= 3, within=20)
    assert traffic.failures == []


def test_a_worker_that_is_told_to_go_is_replaced_while_it_drains(service: Starter) -> None:
    running = service("serve")
    (old,) = running.workers()
    with running.stream("/stream?n=30&gap=0.1") as stream:
        stream.readline()
        os.kill(old, signal.SIGTERM)
        eventually(lambda: running.get("/pid")[1] != str(old))
        assert running.get("/state") == (200, "open")
        assert stream.read().endswith(b"29\nend\n")


def test_a_killed_worker_is_replaced_and_its_leases_are_lapsed(service: Starter) -> None:
    running = service("serve", CHAT_WORKERS="2")
    victim = running.workers()[0]
    os.kill(victim, signal.SIGKILL)
    died = eventually(lambda: running.logged("worker.died"))
    assert [line["pid"] for line in died] == [victim]
    eventually(lambda: len(running.workers()) == 2)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert len(running.logged("worker.died")) == 1, "who leaves cleanly has no leases to lapse"
    assert running.logged("worker.aftermath_failed") == []


def test_connections_are_spread_evenly_over_the_workers(service: Starter) -> None:
    running = service("serve", CHAT_WORKERS="4")
    served: collections.Counter[str] = collections.Counter()
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            connection = stack.enter_context(contextlib.closing(running.connect()))
            connection.request("GET", "/pid")
            served[connection.getresponse().read().decode()] += 1
    assert len(served) == 4
    assert max(served.values()) <= 30, served  # 20 each would be even; without stepping back it is 40


# -- bounds of the server


def test_an_endless_head_is_refused(service: Starter) -> None:
    running = service("run")
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(b"GET /pid HTTP/1.1\r\nhost: x\r\nx-long: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"a" * 1024)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(4096):
                answer += part
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_broken_answer_breaks_the_connection_and_not_the_log(service: Starter) -> None:
    running = service("run")
    with running.stream("/broken") as stream, pytest.raises(http.client.IncompleteRead) as broken:
        stream.read()
    assert broken.value.partial == b"half"
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "Exception in ASGI" not in running.log_text()


# -- starting


def test_every_line_of_the_log_is_json(service: Starter) -> None:
    running = service("serve", CHAT_TYPO="1")
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    lines = running.log_text().splitlines()
    assert all(line.startswith("{") and line.endswith("}") for line in lines), lines
    assert [line["name"] for line in running.logged("settings.unknown")] == ["CHAT_TYPO"]


def test_the_directory_of_metrics_ends_with_the_master(service: Starter) -> None:
    running = service("serve")
    directory = Path(running.get("/metrics-dir")[1])
    assert directory.is_dir()
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert not directory.exists()


def test_neighbours_start_end_and_die_without_meeting(service: Starter) -> None:
    """All make their folders below one, and remove nothing but their own and those of the dead."""
    with concurrent.futures.ThreadPoolExecutor(4) as together:
        first = list(together.map(service, ["serve"] * 3))
        folders = [Path(each.get("/metrics-dir")[1]) for each in first]
        assert len(set(folders)) == 3
        ends, dies, stays = first
        dies.signal(signal.SIGKILL)
        ends.signal(signal.SIGTERM)
        second = list(together.map(service, ["serve"] * 2))
    assert ends.wait() == 0
    dies.wait()
    assert stays.get("/pid")[0] == 200
    assert Path(stays.get("/metrics-dir")[1]) == folders[2]
    living = {folders[2], *(Path(each.get("/metrics-dir")[1]) for each in second)}
    assert len(living) == 3
    assert all(folder.is_dir() for folder in living)
    assert not folders[0].exists()


def test_the_directory_of_metrics_that_a_killed_master_left_is_removed_by_the_next(service: Starter) -> None:
    killed = service("serve")
    left = Path(killed.get("/metrics-dir")[1])
    killed.signal(signal.SIGKILL)
    killed.wait()
    eventually(lambda: killed.workers() == [])
    assert left.is_dir()
    following = service("serve")
    assert not left.exists()
    assert Path(following.get("/metrics-dir")[1]).is_dir()


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"CHAT_PORT": "many"}, ["CHAT_PORT"]),
        ({"CHAT_PORT": "many", "CHAT_WORKERS": "0"}, ["CHAT_PORT", "CHAT_WORKERS"]),
        ({"CHAT_MODEL": "no-such-model"}, ["CHAT_MODEL"]),
        ({"CHAT_TITLE_MODEL": "no-such-model"}, ["CHAT_TITLE_MODEL"]),
        ({"CHAT_ENV": "production", "GROQ_API_KEY": "gsk_x"}, ["CHAT_REDIS_URL"]),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_2(
    tmp_path: Path, settings: dict[str, str], names: list[str]
) -> None:
    ended = call("serve", cwd=tmp_path, **settings)
    assert ended.returncode == 2
    assert [line.split(":")[1].strip() for line in ended.stderr.splitlines()] == names
    assert all(line.startswith("chat: ") for line in ended.stderr.splitlines())
    assert ended.stdout == ""


def test_a_port_in_use_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in ("run", "serve"):
            ended = call(command, cwd=tmp_path, CHAT_PORT=port)
            assert ended.returncode == 1
            assert ended.stderr.splitlines() == [
                f"chat: Port {port} of 127.0.0.1 is in use: stop what uses it, or set CHAT_PORT."
            ]


def test_a_redis_that_is_not_there_is_one_sentence_without_its_password(tmp_path: Path) -> None:
    url = "redis://user:very-secret@127.0.0.1:9/0"
    ended = call("serve", cwd=tmp_path, CHAT_PORT="0", CHAT_REDIS_URL=url, GROQ_BASE_URL="http://127.0.0.1:9")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("chat: The store at redis://127.0.0.1:9/0 cannot be reached")
    assert "very-secret" not in ended.stderr


def test_a_killed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with Running("run", tmp_path) as running:
        beside = children(running.pid)
        assert len(beside) == 2, "the store's keeper and the demo model"
        (tmp_path / ".chat" / "store.sock").stat()
        running.signal(signal.SIGKILL)
        running.wait()
        eventually(lambda: not any(alive(pid) for pid in beside), within=8)
        eventually(lambda: not (tmp_path / ".chat" / "store.sock").exists())
