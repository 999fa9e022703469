"""A client that hangs up while it sends a body is counted as one that left, and is no fault of ours."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import pytest

from service.app import create_app
from service.config.settings import Settings
from service.telemetry import metrics
from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.service import Served
from tests.support.waiting import eventually_async

PATHS = {"session_id": "s", "turn_id": "t", "model_id": "m", "key_id": "k", "chat_id": "s"}


def routes_with_a_body() -> list[tuple[str, str]]:
    document = create_app(Settings(_env_file=None, log_level="error")).openapi()
    return sorted(
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    )


ROUTES = routes_with_a_body()


def counted(route: str, method: str) -> dict[str, float]:
    return {
        sample.labels["status"]: sample.value
        for family in metrics.http_requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
        and (sample.labels["route"], sample.labels["method"]) == (route, method)
    }


def internal() -> float:
    return sum(
        sample.value
        for family in metrics.internal_errors.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


async def hang_up(served: Served, method: str, path: str, framing: bytes, key: str) -> None:
    """After a part of the body, once the service waits for the rest."""
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"%b %b HTTP/1.1\r\nhost: localhost\r\n" % (method.encode(), path.encode()))
    # The service asks for the body when it begins to read it.
    writer.write(b"authorization: Bearer %b\r\ncontent-type: application/json\r\n" % key.encode())
    writer.write(b"expect: 100-continue\r\n" + framing)
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(b'5\r\n{"use\r\n' if b"chunked" in framing else b'{"use')
    await writer.drain()
    writer.close()


def test_there_are_such_routes() -> None:
    assert {("POST", "/chat"), ("POST", "/v1/sessions"), ("PATCH", "/v1/sessions/{session_id}")} <= set(
        ROUTES
    )
    assert len(ROUTES) >= 8


@pytest.mark.parametrize(
    "framing",
    [b"content-length: 100\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_a_client_that_hangs_up_in_its_body_is_counted_as_gone(
    start: Start, capfd: pytest.CaptureFixture[str], method: str, route: str, framing: bytes
) -> None:
    jwt = {"jwt_key": "s" * 32, "jwt_algorithms": "HS256"}  # without, no persons have limits
    async with start(auth="keys,jwt", limit_sends="", limit_reads="", **jwt) as served:
        key = await make_key(served, scopes=("chat", "admin"))
        path = re.sub(r"\{(\w+)\}", lambda found: PATHS.get(found[1], "x"), route)
        await served.client.post("/v1/sessions", json={"id": "s"}, headers=bearer(key))
        before, broken = counted(route, method), internal()
        await hang_up(served, method, path, framing, key)
        await eventually_async(lambda: counted(route, method) != before, within=10)
        after = counted(route, method)
    assert Counter(after) - Counter(before) == {"499": 1}
    assert internal() == broken
    said = capfd.readouterr()
    assert "Traceback" not in said.err + said.out
