"""No credential in any log of any process, whatever becomes of the requests that carry it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.attack.stand import admin_key
from tests.support.issuer import SECRET, token
from tests.support.needed import program
from tests.support.nginx import Nginx
from tests.support.processes import Replica
from tests.support.redis import RedisServer
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

PASSWORD = "canary-redis-password"
METRICS = "canary-metrics-token"
TICKETS = "canary-secret-of-tickets-" + "x" * 32
PROVIDER = "gsk_canary0123456789abcdef"


class Stack:
    """The shipped nginx, two replicas and a Redis with a password, each with a log; and all credentials."""

    def __init__(self, directory: Path, double: DoubleProcess, ends: contextlib.ExitStack) -> None:
        self._redis_log = directory / "redis.log"
        server = RedisServer(directory / "redis", "--logfile", str(self._redis_log), "--loglevel", "verbose")
        ends.callback(server.close)
        server.client().config_set("requirepass", PASSWORD)
        url = server.url.replace("//", f"//:{PASSWORD}@")
        settings: dict[str, Any] = {
            "redis_url": url,
            "GROQ_BASE_URL": double.url,
            "GROQ_API_KEY": PROVIDER,
            "auth": "keys,jwt",
            "jwt_key": SECRET,
            "jwt_algorithms": "HS256",
            "workers": 2,
            "lease_seconds": 3,
            "drain_seconds": 5,
            "metrics_token": METRICS,
            "secret": TICKETS,
            "log_level": "debug",
            "trusted_proxies": "127.0.0.1",
        }
        self.replicas = []
        for name in ("one", "two"):
            self.replicas.append(Replica(directory / name, **settings))
            ends.callback(self.replicas[-1].close)
        self.nginx = Nginx(directory / "nginx", [replica.port for replica in self.replicas])
        ends.callback(self.nginx.close)
        self.admin = admin_key(url)
        self.carried = {PASSWORD, METRICS, TICKETS, PROVIDER, SECRET, self.admin}

    def logs(self) -> dict[str, str]:
        found = {f"replica {place}": replica.log() for place, replica in enumerate(self.replicas)}
        return {**found, "nginx": self.nginx.logs(), "redis": self._redis_log.read_text()}


@pytest.fixture
def stack(tmp_path: Path, upstream: DoubleProcess) -> Iterator[Stack]:
    program("nginx")
    with contextlib.ExitStack() as ends:
        yield Stack(tmp_path, upstream, ends)


async def new_key(http: httpx.AsyncClient, stack: Stack) -> str:
    """A key that was made, rotated and is good; all of its texts are carried."""
    admin = {"Authorization": f"Bearer {stack.admin}"}
    made = (await http.post("/v1/keys", json={"name": "canary"}, headers=admin)).json()
    rotated = (await http.post(f"/v1/keys/{made['id']}/rotate", headers=admin)).json()
    stack.carried |= {made["key"], rotated["key"]}
    text: str = rotated["key"]
    return text


async def ask_in_every_way(http: httpx.AsyncClient, stack: Stack, good: str) -> None:
    """Good and bad credentials, in each place where one may stand, to routes that answer and that refuse."""
    texts = [
        good,
        token("alice"),
        token("bob", lives=-60),
        token("carol", key="another secret of 32 characters!"),
        f"chat_{'0' * 16}_{'canary' * 7}",
        good[:-1] + "_",
        "canary-no-key",
        "sk-canary-0123456789abcdef",
        "eyJhbGciOiJub25lIn0.canary.canary",
    ]
    stack.carried.update(texts)
    body = {"user_query": "[[tokens=2]]"}
    for text in texts:
        for headers in (
            {"Authorization": f"Bearer {text}"},
            {"Authorization": text},
            {"X-API-Key": text},
            {"Authorization": f"Basic {text}"},
            {"Cookie": f"session={text}"},
            {"X-Request-Id": f"a {text}"},
        ):
            await http.post("/chat", json=body, headers=headers)
        for path in ("/v1/sessions", "/chat", "/v1/sessions/s/turns/t/events", "/none", "/metrics"):
            for name in ("ticket", "api_key", "key", "access_token", "token"):
                await http.get(path, params={name: text})
    for directives in ("fault=401", "fault=403", "fault=drop", "fault=error_event", "fault=garbage"):
        body = {"user_query": f"[[{directives} times=9]]"}
        with contextlib.suppress(httpx.TransportError):
            await http.post("/chat", json=body, headers={"X-API-Key": good})


async def read_with_a_ticket_until_its_worker_dies(http: httpx.AsyncClient, stack: Stack, good: str) -> None:
    headers = {"Authorization": f"Bearer {good}", "Prefer": "respond-async"}
    begun = await http.post(
        "/v1/sessions/ticketed/turns", json={"content": "[[tokens=400 rate=40]]"}, headers=headers
    )
    url = (await http.post(f"{begun.headers['location']}/ticket", headers=headers)).json()["url"]
    stack.carried.add(url.partition("ticket=")[2])
    with contextlib.suppress(httpx.TransportError):
        async with http.stream("GET", url) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_raw():
                for replica in stack.replicas:
                    for pid in replica.workers():
                        os.kill(pid, signal.SIGKILL)
    for replica in stack.replicas:
        await asyncio.to_thread(eventually, replica.ready, 30)
    for path in (url, url.replace("events", "event"), url.replace("ticketed", "another")):
        await http.get(path, headers={"Last-Event-ID": "999999"})


async def test_no_credential_is_in_any_log(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.nginx.url, timeout=30) as http:
        good = await new_key(http, stack)
        await ask_in_every_way(http, stack, good)
        await read_with_a_ticket_until_its_worker_dies(http, stack, good)
        for replica in stack.replicas:
            await http.get(f"{replica.url}/metrics", headers={"Authorization": f"Bearer {METRICS}"})
            await http.get(f"{replica.url}/metrics", headers={"Authorization": f"Bearer {METRICS}x"})
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(
                port=int(str(stack.replicas[0].settings["redis_url"]).rpartition(":")[2][:-2]),
                password=f"{PASSWORD}x",
            ).ping()
        for replica in stack.replicas:
            replica.signal(signal.SIGTERM)
            await asyncio.to_thread(replica.wait, 30)
        assert (await http.get("/v1/sessions", headers={"X-API-Key": good})).status_code == 503
    stack.nginx.close()
    logs = stack.logs()
    assert {name for name, text in logs.items() if len(text) < 500} == set(), "a log that says nothing"
    found = {(name, text) for name, log in logs.items() for text in stack.carried if text in log}
    assert found == set()
