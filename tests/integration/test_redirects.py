"""A provider, an issuer or a receiver that sends us elsewhere: nothing goes there."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from service.upstream.webhook import NotTold, tell
from tests.conftest import Start
from tests.support.identity import bearer
from tests.support.issuer import AUDIENCE, ISSUER, private_key, token
from tests.support.redis import RedisServer
from tests.support.running import call

REDIRECTS = [301, 302, 303, 307, 308]
SENTENCE = "The provider sends this service elsewhere, where it does not follow."


class Web:
    """A server that redirects all requests to another one, or that other one. Notes what it is asked."""

    def __init__(self, to: str = "") -> None:
        self.to = to
        self.status = 302
        self.asked: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.partition(b"\r\n")[0])
        where = f"Location: {self.to}\r\n" if self.to else ""
        status = self.status if self.to else 200
        writer.write(f"HTTP/1.1 {status} x\r\n{where}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def listen(self, stack: AsyncExitStack) -> None:
        server = await stack.enter_async_context(await asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def elsewhere() -> AsyncIterator[Web]:
    async with AsyncExitStack() as stack:
        web = Web()
        await web.listen(stack)
        yield web


@pytest.fixture
async def redirecting(elsewhere: Web) -> AsyncIterator[Web]:
    async with AsyncExitStack() as stack:
        web = Web(f"{elsewhere.url}/v1/chat/completions")
        await web.listen(stack)
        yield web


@pytest.mark.parametrize("status", REDIRECTS)
async def test_no_message_goes_where_the_provider_points_to(
    start: Start, redirecting: Web, elsewhere: Web, status: int
) -> None:
    redirecting.status = status
    async with start(groq_base_url=f"{redirecting.url}/v1", groq_api_key="gsk_secret") as served:
        answer = await served.client.post("/chat", json={"user_query": "a secret"})
        assert (answer.status_code, answer.json()["code"]) == (502, "upstream_unavailable")
        assert answer.json()["detail"] == SENTENCE
        openai = {"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "a secret"}]}
        assert (await served.client.post("/v1/chat/completions", json=openai)).status_code == 502
        shown = (await served.client.get("/metrics")).text
        assert 'kind="redirect"' in shown
    assert elsewhere.asked == []
    assert set(redirecting.asked) == {b"POST /v1/chat/completions HTTP/1.1"}


async def test_nor_through_the_environment_s_proxy(
    start: Start, redirecting: Web, elsewhere: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", redirecting.url)  # a proxy that answers by itself
    client = httpx.AsyncClient(trust_env=False)
    async with start(groq_base_url="http://provider.example/v1") as served, client:
        answer = await client.post(f"{served.url}/chat", json={"user_query": "a secret"})
    assert (answer.status_code, answer.json()["detail"]) == (502, SENTENCE)
    assert elsewhere.asked == []


async def test_a_server_that_redirects_everything_is_asked_at_each_place_and_not_beyond(
    start: Start, redirecting: Web, elsewhere: Web
) -> None:
    async with start(groq_base_url=redirecting.url) as served:
        answer = await served.client.post("/chat", json={"user_query": "a secret"})
    assert (answer.status_code, answer.json()["detail"]) == (502, SENTENCE)
    assert redirecting.asked[:3] == [
        b"POST %b/chat/completions HTTP/1.1" % place for place in (b"/openai/v1", b"/v1", b"")
    ]
    assert elsewhere.asked == []


async def test_check_shows_where_to_and_gives_the_key_to_nobody(
    tmp_path: Path, redis_server: RedisServer, redirecting: Web, elsewhere: Web
) -> None:
    given = {"CHAT_REDIS_URL": redis_server.url, "GROQ_BASE_URL": f"{redirecting.url}/v1"}
    ended = await asyncio.to_thread(call, "check", cwd=tmp_path, GROQ_API_KEY="gsk_secret", **given)
    assert ended.returncode == 1
    assert f"{redirecting.url}/v1/models answered 302, to {redirecting.to}." in ended.stderr
    assert elsewhere.asked == []


@pytest.mark.parametrize("status", REDIRECTS)
async def test_keys_of_tokens_are_taken_from_the_issuer_s_own_address(
    start: Start, redirecting: Web, elsewhere: Web, status: int
) -> None:
    redirecting.status = status
    settings = {"auth": "jwt", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_algorithms": "ES256"}
    async with start(jwt_jwks_url=redirecting.url, **settings) as served:
        text = token(key=private_key("ES256"), algorithm="ES256", key_id="a")
        answer = await served.client.get("/v1/sessions", headers=bearer(text))
    assert answer.status_code == 503
    assert (len(redirecting.asked), elsewhere.asked) == (1, [])


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_webhook_is_told_at_its_own_address(redirecting: Web, elsewhere: Web, status: int) -> None:
    redirecting.status = status
    with pytest.raises(NotTold, match=str(status)):
        await tell(redirecting.url, base64.b64encode(b"x"), "id", b"{}", private=True)
    assert (len(redirecting.asked), elsewhere.asked) == (1, [])
