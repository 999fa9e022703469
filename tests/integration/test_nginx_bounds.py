"""deploy/nginx: what one address can make it hold or repeat, and what it writes down of a request."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.config.settings import Settings
from service.dialects.errors import envelope
from service.errors import ServiceError
from tests.integration.test_nginx import FakeReplica, answers, calls, dies, drains, http, nginx, replicas
from tests.support.needed import program
from tests.support.nginx import Nginx
from tests.support.redis import free_port
from tests.support.running import ROOT
from tests.support.waiting import eventually, eventually_async

__all__ = ["http", "nginx", "replicas"]

MIB = 1_048_576
CONF = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
FORMS = ("/chat", "/v1/keys", "/v1/chat/completions", "/openai/v1/chat/completions", "/api/chat")
TICKET = "ticket-canary-0123456789"


def number(pattern: str, text: str = CONF) -> int:
    found = re.search(pattern, text)
    assert found, pattern
    return int(found[1])


@pytest.fixture
async def connections(nginx: Nginx) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Those that a test has opened, which are closed with it."""
    opened: list[asyncio.StreamWriter] = []
    yield opened
    for writer in opened:
        writer.transport.abort()


async def begun(
    nginx: Nginx, opened: list[asyncio.StreamWriter], data: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
    opened.append(writer)
    writer.write(data)
    await writer.drain()
    return reader, writer


def body_of(size: int) -> bytes:
    return b"POST /chat HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size


async def test_bodies_that_lack_their_last_byte_do_not_fill_its_memory(
    nginx: Nginx, connections: list[asyncio.StreamWriter], http: httpx.AsyncClient
) -> None:
    before = nginx.memory()
    data = body_of(MIB) + b"x" * (MIB - 1)
    opened = [await begun(nginx, connections, body_of(MIB)) for _ in range(135)]
    heads = [asyncio.create_task(reader.readuntil(b"\r\n\r\n")) for reader, _ in opened]
    await eventually_async(lambda: sum(head.done() for head in heads) == 135 - 64, within=20)
    assert {head.result()[:13] for head in heads if head.done()} == {b"HTTP/1.1 429 "}
    for (_, writer), head in zip(opened, heads, strict=True):
        if not head.done():
            writer.write(data[-MIB + 1 :])
            await writer.drain()
    assert nginx.memory() - before < 64 * MIB, "512 KiB each, the rest is in files"
    for head in heads:
        head.cancel()
    assert (await http.get("/v1/models")).status_code == 200


def test_the_files_of_all_bodies_fit_into_what_compose_gives_them() -> None:
    medium, large, huge = (number(rf"limit_conn {size} (\d+);") for size in ("medium", "large", "huge"))
    buffer = number(r"client_body_buffer_size (\d+)k;") * 1024
    assert buffer > 100_000, "what counts as medium needs no file"
    folder = number(r'tmpfs: \["/tmp:size=(\d+)m,uid=101', COMPOSE) * MIB
    assert large * 2_100_000 + huge * number(r"client_max_body_size (\d+)m;") * MIB <= folder
    memory = number(r"(?s)\n  nginx:.*?memory: (\d+)m", COMPOSE) * MIB
    own = 150 * MIB  # 2,000 streams at 30 KiB each, heads, zones, the program
    assert folder + medium * 100_000 + (large + huge) * buffer + own <= memory, "a tmpfs counts as memory"


@pytest.mark.parametrize(
    ("size", "bound"),
    [
        (99_999, 500),
        (100_000, 64),
        (999_999, 64),
        (1_999_999, 64),
        (2_099_999, 64),
        (2_100_000, 16),
        (3_000_000, 16),
        (8 * MIB, 16),
    ],
)
def test_the_larger_a_body_the_fewer_an_address_may_send_at_once(size: int, bound: int) -> None:
    classes = re.search(r'(?s)map "\$http_transfer_encoding:(.*?)\n    }', CONF)
    assert classes
    sizes = [
        name for rule, name in re.findall(r'"~(\S+)"\s+(\w+);', classes[1]) if re.search(rule, f":{size}")
    ]
    assert number(rf"limit_conn {sizes[0]}_of_address (\d+);") == bound


def test_what_stands_in_front_lets_through_what_the_service_takes() -> None:
    default = Settings.model_fields["max_image_body_bytes"].default
    ingress = (ROOT / "deploy" / "k8s" / "ingress.yaml").read_text()
    assert number(r"client_max_body_size (\d+)m;") * MIB == default
    assert number(r"proxy-body-size: (\d+)m", ingress) * MIB == default
    assert number(r"client-max-body-size: (\d+)m", ingress) * MIB == default


async def test_a_send_with_a_large_image_gets_through(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    body = b"x" * 8 * MIB
    assert (await http.post("/v1/chat/completions", content=body)).status_code == 200
    assert [call.body == body for call in calls(replicas)] == [True]


async def test_a_large_body_that_is_in_a_file_is_repeated_whole(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    replicas[0].act = dies
    body = bytes(range(256)) * 5_000
    for _ in range(4):
        assert (await http.post("/chat", content=body)).status_code == 200
    assert replicas[0].calls
    assert {call.body == body for call in calls(replicas)} == {True}


async def test_an_address_that_asks_too_often_is_refused_in_the_services_form(
    replicas: list[FakeReplica], tmp_path: Path
) -> None:
    ports = [replica.port for replica in replicas]
    running = await asyncio.to_thread(Nginx, tmp_path / "nginx", ports, rate="1r/m", burst="5")
    try:
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as client:
            statuses = [(await client.get("/v1/sessions")).status_code for _ in range(10)]
            forms = {path: await client.post(path) for path in FORMS}
    finally:
        await asyncio.to_thread(running.close)
    assert statuses == sorted(statuses)
    assert {200, 429} == set(statuses)
    for path, answer in forms.items():
        error = ServiceError("rate_limited", "Too many requests from your address; try again in 1 s.")
        text, kind = envelope(path, error)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert (answer.content, answer.headers["content-type"]) == (text, kind)


async def test_what_nginx_answers_has_the_services_form_on_every_route(
    http: httpx.AsyncClient, replicas: list[FakeReplica]
) -> None:
    for replica in replicas:
        replica.act = dies
    no_replica = ServiceError("overloaded", "No replica answers; try again in 1 s.")
    too_large = ServiceError("body_too_large", "The body has more than 8 MiB.")
    for path in FORMS:
        for error, body in ((no_replica, b"{}"), (too_large, b"x" * (8 * MIB + 1))):
            answer = await http.post(path, content=body)
            text, kind = envelope(path, error)
            assert (answer.status_code, answer.content) == (error.status, text)
            assert answer.headers["content-type"] == kind


@pytest.mark.parametrize(
    ("method", "path", "times"),
    [
        ("POST", "/v1/keys", 1),
        ("POST", "/v1/keys/k/rotate", 1),
        ("POST", "/v1/sessions", 1),
        ("PATCH", "/v1/sessions/s", 1),
        ("POST", "/v1/sessions/s/fork", 1),
        ("POST", "/v1/unknown", 1),
        ("POST", "/v1/sessions/s/turns", 2),
        ("POST", "/chat", 2),
        ("POST", "/api/chat", 2),
        ("POST", "/v1/sessions/s/turns/t/stop", 2),
        ("POST", "/v1/chat/completions", 2),
        ("GET", "/v1/keys", 2),
        ("DELETE", "/v1/sessions/s", 2),
    ],
)
async def test_only_what_may_be_done_twice_is_repeated(
    http: httpx.AsyncClient, replicas: list[FakeReplica], method: str, path: str, times: int
) -> None:
    for replica in replicas:
        replica.act = dies
    answer = await http.request(method, path, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 503
    assert len(calls(replicas)) == times


async def test_what_reached_nobody_goes_to_the_next_replica_whatever_it_is(
    replicas: list[FakeReplica], tmp_path: Path
) -> None:
    running = await asyncio.to_thread(Nginx, tmp_path / "nginx", [free_port(), replicas[1].port])
    try:
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as client:
            for _ in range(4):
                assert (await client.post("/v1/keys", json={"name": "x"})).status_code == 200
        assert len(replicas[1].calls) == 4
    finally:
        await asyncio.to_thread(running.close)


async def test_no_log_has_the_query_of_a_request_whatever_becomes_of_it(
    nginx: Nginx, replicas: list[FakeReplica], connections: list[asyncio.StreamWriter]
) -> None:
    """A query may hold a ticket. Each way in which a request ends badly is gone."""

    async def cut(call: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)  # the part has to be on its way before the end is
        writer.transport.abort()

    async def garbles(call: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nno header\r\n\r\n")
        await writer.drain()
        writer.close()

    path = f"/v1/sessions/s/turns/t/events?ticket={TICKET}"
    referer = {"Referer": f"http://x/?ticket={TICKET}", "Authorization": f"Bearer {TICKET}"}
    async with httpx.AsyncClient(base_url=nginx.url, timeout=20, headers=referer) as client:
        for act in (answers, dies, cut, garbles, drains):
            for replica in replicas:
                replica.act = act
            for method in ("GET", "POST"):
                try:
                    await client.request(method, path)
                except httpx.TransportError:
                    assert act is cut
        await client.post(f"/chat?ticket={TICKET}", content=b"x" * (8 * MIB + 1))
        await client.get("/metrics", params={"ticket": TICKET})
        replicas[0].act = replicas[1].act = answers
        await client.post(f"/chat?ticket={TICKET}", content=b"x" * 200_000)  # into a file
    for line in (
        f"GET {path} HTTP/1.1\r\nhost: x\r\nbroken header\r\n\r\n",
        f"GET {path} HTTP/9.9\r\nhost: x\r\n\r\n",
        f"GET /{'x' * 40_000}?ticket={TICKET} HTTP/1.1\r\nhost: x\r\n\r\n",
        f"GET /../{path} HTTP/1.1\r\nhost: x\r\n\r\n",
        f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\nx",
        f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ):
        reader, _ = await begun(nginx, connections, line.encode())
        await asyncio.wait_for(reader.read(100), 10)
    _, writer = await begun(nginx, connections, f"POST {path} HTTP/1.1\r\ncontent-length: 9\r\n\r\n".encode())
    writer.transport.abort()
    await eventually_async(lambda: nginx.logs().count('"status":') >= 18, within=10)
    await asyncio.to_thread(nginx.close)
    logs = await asyncio.to_thread(eventually, nginx.logs)
    assert TICKET not in logs
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    assert any("502" in line["upstream_status"] for line in lines)


async def test_with_tls_the_plain_port_serves_nothing(replicas: list[FakeReplica], tmp_path: Path) -> None:
    port = free_port()
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = (
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    )
    command = [program("openssl"), *make]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
    conf = (ROOT / "deploy/nginx/tls.conf").read_text().replace("listen 8443", f"listen 127.0.0.1:{port}")
    conf = conf.replace("/run/secrets/tls_certificate", str(certificate))
    conf = conf.replace("/run/secrets/tls_key", str(key))
    (tmp_path / "nginx" / "tls").mkdir(parents=True)
    (tmp_path / "nginx" / "tls" / "tls.conf").write_text(conf)
    ports = [replica.port for replica in replicas]
    running = await asyncio.to_thread(Nginx, tmp_path / "nginx", ports)
    try:
        async with httpx.AsyncClient(verify=False, timeout=20) as client:
            secure = f"https://127.0.0.1:{port}"
            assert (await client.post(f"{secure}/chat", json={})).text == "ok"
            assert (
                await client.get(f"{secure}/v1/models", headers={"Authorization": "Bearer k"})
            ).text == "ok"
            passed = len(calls(replicas))
            page = await client.get(f"{running.url}/ui?a=b")
            assert (page.status_code, page.headers["location"]) == (308, "https://127.0.0.1/ui?a=b")
            for answer in (
                await client.post(f"{running.url}/chat", json={}),
                await client.get(f"{running.url}/v1/models", headers={"Authorization": "Bearer k"}),
                await client.get(f"{running.url}/v1/models", headers={"X-API-Key": "k"}),
            ):
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert len(calls(replicas)) == passed
    finally:
        await asyncio.to_thread(running.close)
