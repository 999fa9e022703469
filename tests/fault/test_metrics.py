"""What Prometheus counts is what happened, exactly: under load, behind nginx, after deaths.

A real Prometheus scrapes two replicas of four workers. The load generator counts what it has
done and seen by itself, and both have to agree to the last request; every query of every
dashboard has to have data in that run.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fault.conftest import Launch
from tests.support.needed import program
from tests.support.nginx import Nginx
from tests.support.processes import ROOT, Replica
from tests.support.prometheus import Prometheus
from tests.support.readers import client
from tests.support.redis import RedisServer, free_port
from tests.support.scrape import scrape
from tests.support.sse import Frame, Parser
from tests.support.waiting import eventually, eventually_async

pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]

DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
PROBES = {"/readyz", "/livez", "/metrics"}
_APART_SECONDS = 0.5
SEND, EVENTS = "/v1/sessions/{session_id}/turns", "/v1/sessions/{session_id}/turns/{turn_id}/events"


class Driver:
    """Does things through the balancer and counts them, as a client can know them."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self.http = http
        self.url = url
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.turns: list[str] = []
        self.resumes = 0
        self._names = 0

    def _name(self) -> str:
        self._names += 1
        return f"n{self._names}"

    def _seen(self, route: str, answer: httpx.Response) -> None:
        self.requests[route, answer.request.method, str(answer.status_code)] += 1

    async def chat(self, directive: str) -> None:
        """A text/plain answer in a session, read to its end."""
        session = self._name()
        body = {"user_query": f"[[{directive}]]", "session_id": session}
        answer = await self.http.post(f"{self.url}/chat", json=body)
        self._seen("/chat", answer)
        self.outcomes["completed" if answer.status_code == 200 else "failed"] += 1
        if answer.status_code == 200:
            self.turns.append(f"/v1/sessions/{session}/turns/{answer.headers['x-turn-id']}")

    async def begin(self, directive: str, *, repeats: int = 0) -> str:
        """A turn that runs without a reader; gives its path. Repeats attach to it."""
        session = self._name()
        for _ in range(1 + repeats):
            answer = await self.http.post(
                f"{self.url}/v1/sessions/{session}/turns",
                json={"content": f"[[{directive}]]"},
                headers={"Prefer": "respond-async", "Idempotency-Key": session},
            )
            self._seen(SEND, answer)
            assert answer.status_code == 202, answer.text
        path: str = answer.headers["location"]
        self.turns.append(path)
        return path

    async def read(self, path: str, after: int | None = None, *, leave_after: int = 0) -> list[Frame]:
        """Events from a cursor on. Gives what came before the end, a cut or our leaving."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        self.resumes += after is not None
        found: list[Frame] = []
        parser = Parser()
        try:
            async with self.http.stream("GET", f"{self.url}{path}/events", headers=headers) as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_raw():
                    found += parser.feed(piece)
                    if leave_after and len(found) >= leave_after:
                        break
        except httpx.RemoteProtocolError:
            # Cut: its worker has died and will never count it. Coming back at once could meet the
            # next death, and a resume that dies before its first byte is made again by nginx.
            await asyncio.sleep(_APART_SECONDS)
            return found
        self._seen(EVENTS, answer)
        return found[:leave_after] if leave_after else found

    async def follow(self, path: str) -> None:
        """To the end, resuming whenever the connection breaks."""
        events = await self.read(path)
        while not (
            events
            and events[-1].event.startswith("turn.")
            and events[-1].event.endswith("ed")
            and events[-1].event not in ("turn.started", "turn.restarted")
        ):
            events += await self.read(path, after=events[-1].id if events else 0)
        self.outcomes[events[-1].event.removeprefix("turn.")] += 1

    async def stop(self, path: str) -> None:
        answer = await self.http.post(f"{self.url}{path}/stop")
        self._seen("/v1/sessions/{session_id}/turns/{turn_id}/stop", answer)
        assert answer.json()["state"] == "stopped"
        self.outcomes["stopped"] += 1

    async def get(self, path: str, route: str) -> httpx.Response:
        answer = await self.http.get(f"{self.url}{path}")
        self._seen(route, answer)
        return answer

    async def usage(self) -> Counter[str]:
        """What the turns themselves say that they cost."""
        total: Counter[str] = Counter()
        for path in self.turns:
            turn = (await self.get(path, "/v1/sessions/{session_id}/turns/{turn_id}")).json()
            total["input"] += turn["usage"]["prompt_tokens"]
            total["output"] += turn["usage"]["completion_tokens"]
        return total


class Stack:
    def __init__(
        self, replicas: list[Replica], ports: list[int], nginx: Nginx, prometheus: Prometheus
    ) -> None:
        self.replicas = replicas
        self.metrics_ports = ports
        self.nginx = nginx
        self.prometheus = prometheus

    def running(self) -> float:
        """Requests of any kind that have not ended, turns too, as the replicas themselves say now."""
        told = [scrape(f"http://127.0.0.1:{port}/metrics") for port in self.metrics_ports]
        return sum(one.value(name) for one in told for name in ("chat_turns_running", "chat_readers_open"))

    def counted(self, at: float) -> dict[tuple[str, str, str], float]:
        """chat_http_requests_total of both replicas, without the probes and what never happened."""
        samples = self.prometheus.query("sum by (route, method, status) (chat_http_requests_total)", at)
        return {
            (labels["route"], labels["method"], labels["status"]): value
            for labels, value in samples
            if value and labels["route"] not in PROBES
        }


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", "--maxmemory", "256mb")
    yield server
    server.close()


@pytest.fixture
def stack(launch: Launch, tmp_path: Path) -> Iterator[Stack]:
    program("prometheus")
    ports = [free_port(), free_port()]
    replicas = [launch(workers=4, metrics_port=port) for port in ports]
    nginx = Nginx(tmp_path / "nginx", [replica.port for replica in replicas])
    prometheus = Prometheus(tmp_path / "prometheus", ports)
    eventually(lambda: prometheus.value("sum(chat_workers)") == 8, within=60)
    yield Stack(replicas, ports, nginx, prometheus)
    prometheus.close()
    nginx.close()


async def ordinary_load(driver: Driver, number: int) -> None:
    """A bit of everything that a user does."""
    await driver.chat(f"tokens=20 rate=0 seed={number}")
    path = await driver.begin(f"tokens=30 rate=200 seed={number}", repeats=number % 2)
    events = await driver.read(path, leave_after=2)
    rest = await driver.read(path, after=events[-1].id)
    assert rest[-1].event == "turn.completed"
    driver.outcomes["completed"] += 1
    if number % 4 == 0:
        await driver.chat("fault=400 times=9")
        await driver.get("/v1/sessions/nobody", "/v1/sessions/{session_id}")
        await driver.get("/nowhere", "unmatched")
        slow = await driver.begin("tokens=500 rate=20")
        await driver.stop(slow)


async def kill_under_streams(stack: Stack, driver: Driver) -> None:
    """Workers die by -9 in the middle of streams that nginx must not repeat."""
    paths = [await driver.begin(f"tokens=240 rate=60 seed={n}") for n in range(8)]
    following = [asyncio.create_task(driver.follow(path)) for path in paths]
    await eventually_async(lambda: stack.prometheus.value("sum(chat_readers_open)") == 8, within=20)
    for pid in (*stack.replicas[0].workers()[:2], *stack.replicas[1].workers()):
        os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(asyncio.gather(*following), 60)


def dashboard_queries() -> list[tuple[str, str, str]]:
    found = []
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            found += [(file.stem, panel["title"], target["expr"]) for target in panel.get("targets", [])]
    return found


def evaluated(expression: str) -> str:
    """As Grafana sends it, for a minute that ends now."""
    for name, value in {
        "$__rate_interval": "1m",
        "$__range": "1m",
    }.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


@pytest.mark.alone  # eight streams of 4 s have to be open at the same scrape of both replicas
async def test_prometheus_counts_what_happened_and_the_dashboards_show_it(stack: Stack) -> None:
    prometheus = stack.prometheus
    async with client() as http:
        driver = Driver(http, stack.nginx.url)
        await asyncio.gather(*(ordinary_load(driver, n) for n in range(24)))
        await kill_under_streams(stack, driver)
        stack.replicas[0].signal(signal.SIGHUP)  # every worker of it is recycled
        await asyncio.gather(*(ordinary_load(driver, n) for n in range(24, 36)))
        usage = await driver.usage()

    # A request is counted when its response has ended, which its client may see a moment before.
    await eventually_async(lambda: stack.running() == 0, within=20)
    at = await asyncio.to_thread(prometheus.caught_up)
    assert stack.counted(at) == dict(driver.requests)

    def total(metric: str, **labels: str) -> float:
        selector = ", ".join(f'{name}="{value}"' for name, value in labels.items())
        return prometheus.value(f"sum({metric}{{{selector}}})", at)

    assert total("chat_turns_started_total") == sum(driver.outcomes.values())
    for outcome in ("completed", "stopped", "failed"):
        assert total("chat_turns_ended_total", outcome=outcome) == driver.outcomes[outcome]
    for direction in ("input", "output"):
        assert total("chat_tokens_total", direction=direction) == usage[direction]
    assert total("chat_reader_resumes_total") == driver.resumes
    assert total("chat_stops_total") == driver.outcomes["stopped"]
    assert total("chat_idempotent_repeats_total") == 18
    assert total("chat_turns_running") == total("chat_readers_open") == 0
    assert total("chat_takeovers_total") > 0
    assert total("chat_time_to_first_token_seconds_count") >= driver.outcomes["completed"]

    await eventually_async(lambda: prometheus.value("sum(chat_workers)") == 8, within=60)
    assert [rule for rule in prometheus.rules() if rule["health"] == "err"] == []
    unseen = dashboard_queries()
    assert len(unseen) > 60

    def all_drawn() -> bool:
        unseen[:] = [item for item in unseen if not drawn(prometheus, item[2])]
        return not unseen

    try:
        eventually(all_drawn, within=10)
    except AssertionError:
        raise AssertionError(f"without data: {unseen}") from None


def drawn(prometheus: Prometheus, expression: str) -> bool:
    samples = prometheus.query(evaluated(expression))
    return any(not math.isnan(value) for _, value in samples)


def test_dashboards_are_whole() -> None:
    """Ids are unique, every panel says what it shows, and uses the provisioned data source."""
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    seen = set()
    for file in DASHBOARDS:
        board: dict[str, Any] = json.loads(file.read_text())
        assert board["uid"] not in seen
        seen.add(board["uid"])
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            if panel["type"] != "row":
                assert re.search(rf"uid: {panel['datasource']['uid']}\b", source)
                assert panel["title"]
                assert panel["targets"]
    assert seen == {"chat-overview", "chat-reliability", "chat-cost"}
