"""Groq through its SDK: one attempt at a time, decoded from raw bytes.

The SDK brings authentication, URL and headers; retries are the engine's. Its objects per chunk
(5x the CPU) and what it makes of each request and response (four fifths of a call's 0.2 ms) are
bypassed. Every failure, the transport's own exceptions included, leaves here as UpstreamError.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, Final

import groq
import httpx
import orjson

from service.config.environment import has_proxy
from service.config.redis_url import without_credentials
from service.config.settings import Settings
from service.errors import UpstreamError
from service.telemetry.logs import get_logger
from service.upstream import whole
from service.upstream.address import GROQ, roots
from service.upstream.base import Gate, Limits, OnBatch, Request
from service.upstream.calls import Address, Calls, Client, Response, close, headers_of
from service.upstream.chunks import Decoder, cut_short, garbled
from service.upstream.formats import Formats
from service.upstream.models import Model
from service.upstream.refusals import is_redirect, is_unknown_url, refusal
from service.upstream.transport import Body, Head, Transport

_CONNECT_SECONDS: Final = 5.0
# The runner has timers of its own; these only bound what they cannot see.
_READ_SECONDS: Final = 3600.0
_POOL_SECONDS: Final = 5.0
_KEEPALIVE_CONNECTIONS: Final = 256
_KEEPALIVE_SECONDS: Final = 60.0
# Bytes of an error response that are read. Groq's have 1 KB; with a failed generation as much as an answer.
_MOST_REFUSAL_BYTES: Final = 1_048_576
_DOCUMENT: Final = "document"  # where an error response keeps its parsed body, in its extensions
_NUMBER: Final = re.compile(rb"[0-9]{1,15}")

log = get_logger(__name__)

#: what callers may set and Groq takes under the same name
PASSED_ON: Final = (
    "temperature",
    "top_p",
    "seed",
    "stop",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "user",
)


class Groq:
    def __init__(self, settings: Settings) -> None:
        timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS, pool=_POOL_SECONDS)
        transport = None if has_proxy(settings.groq_base_url or GROQ) else _transport()
        http = _http_client(settings, transport, timeout)
        self._calls = Calls(http, transport, timeout)
        self._client = groq.AsyncGroq(
            api_key="none",  # each call brings its own
            max_retries=0,
            timeout=timeout,
            http_client=http,
            default_headers={"Accept-Encoding": "identity"},
        )
        self._formats = Formats()
        said = self._client.default_headers.items()
        common = {name: value for name, value in said if isinstance(value, str)}
        self._addresses = [
            Address(httpx.URL(f"{root}/chat/completions"), common) for root in roots(settings.groq_base_url)
        ]
        first = self._addresses[0]  # all are of one server
        self._server = (first.url.host, first.origin[2])

    async def close(self) -> None:
        await self._client.close()

    def call(self, request: Request) -> _Call:
        """One attempt. Raises UpstreamError; leaving the block closes a response that has not ended."""
        request.server = self._server
        return _Call(self, request)

    def streams(self, model: Model, params: dict[str, Any]) -> bool:
        return self._formats.streams(model, params)

    async def find(self, content: bytes, request: Request) -> Response:
        """The head of the response from the first address that exists; later calls ask only that one."""
        addresses = self._addresses
        for address in addresses:
            response = await self._calls.send(address, content, request)
            if isinstance(response, Head) or response.is_success:
                if len(addresses) > 1:
                    self._addresses = [address]
                break
            if not await _is_elsewhere(response):
                break
            if address is addresses[-1]:
                url = without_credentials(str(address.url))
                log.error("upstream.not_found", url=url, status=response.status_code)
                break
            await close(response)
        return response

    def refused(self, request: Request, error: UpstreamError) -> bool:
        """Was the call refused because it was streamed, or was not?"""
        return error.kind == "rejected" and self._formats.refused(
            request.model, request.params, error.message, whole=request.whole
        )


class _Call:
    """One call while its block lasts."""

    def __init__(self, provider: Groq, request: Request) -> None:
        self._provider = provider
        self._request = request
        self._response: Response | None = None

    async def __aenter__(self) -> GroqAnswer | WholeAnswer:
        request = self._request
        params: dict[str, Any] = {
            "model": request.model.id,
            "messages": request.messages,
            "stream": not request.whole,
            "max_completion_tokens": request.max_completion_tokens,
        }
        if not request.whole:
            params["stream_options"] = {"include_usage": True}
        asked = request.params
        params |= {name: asked[name] for name in PASSED_ON if asked.get(name) is not None}
        response = await self._provider.find(orjson.dumps(params), request)
        if isinstance(response, httpx.Response) and not response.is_success:
            request.billable = False
            try:
                error = refusal(response.status_code, await _document(response), response.headers)
            finally:
                await close(response)
            raise _other_way(error.message) if self._provider.refused(request, error) else error
        self._response = response
        return WholeAnswer(response) if _is_whole(response) else GroqAnswer(response)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            await close(self._response)
        if isinstance(error, UpstreamError) and self._provider.refused(self._request, error):
            raise _other_way(error.message) from None


class GroqAnswer:
    """The tokens of one response, decoded where they arrive."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._decoder = Decoder()
        self._on_batch: OnBatch
        self._pause: Awaitable[None] | None = None
        self._failure: UpstreamError | None = None
        self.limits = _limits(headers_of(response))
        self.gate: Gate | None = response.body if isinstance(response, Head) else None

    @property
    def said(self) -> dict[str, Any]:
        return self._decoder.said

    async def read_into(self, on_batch: OnBatch) -> None:
        """Raises UpstreamError."""
        decoder, response = self._decoder, self._response
        try:
            if isinstance(response, Head):
                await self._read_into(response.body, on_batch)
            else:
                async for data in response.aiter_raw():
                    if (pause := on_batch(decoder.feed(data))) is not None:
                        await pause
                    if decoder.done or decoder.failure is not None:
                        break
            decoder.end()
        except (httpx.TransportError, httpx.StreamError) as error:
            if decoder.finished:
                return
            raise cut_short() from error

    async def _read_into(self, body: Body, on_batch: OnBatch) -> None:
        self._on_batch = on_batch
        while await body.read_into(self._push):
            if self._failure is not None:
                raise self._failure
            if self._pause is not None:
                await self._pause
            if self._decoder.done:
                body.let_go()
                return

    def _push(self, data: bytes) -> bool:
        """Called by the network callback. True: the task that waits for the body has to go on now."""
        decoder = self._decoder
        try:
            self._pause = self._on_batch(decoder.feed(data))
            self._failure = decoder.failure
        except UpstreamError as error:  # raised in the task that waits, not in the connection
            self._failure = error
        return self._pause is not None or self._failure is not None or decoder.done


class WholeAnswer:
    """One response that is not a stream, decoded when all of it is there."""

    gate: Gate | None = None

    def __init__(self, response: Response) -> None:
        self._response = response
        self.limits = _limits(headers_of(response))
        self.said: dict[str, Any] = {}

    async def read_into(self, on_batch: OnBatch) -> None:
        """Raises UpstreamError."""
        body, response = bytearray(), self._response
        try:
            async for data in response.body if isinstance(response, Head) else response.aiter_raw():
                body += data
                if len(body) > whole.MOST_BYTES:
                    raise garbled()
        except (httpx.TransportError, httpx.StreamError) as error:
            raise cut_short() from error
        if (pause := on_batch(whole.decode(bytes(body), self.said))) is not None:
            await pause


async def _is_elsewhere(response: httpx.Response) -> bool:
    if is_redirect(response.status_code):
        return True
    if response.status_code not in (404, 405):
        return False
    try:
        return is_unknown_url(response.status_code, await _document(response))
    except BaseException:
        await close(response)  # whoever leaves now has no response to close
        raise


def _is_whole(response: Response) -> bool:
    """By its type, not by what was asked for: some servers stream nothing, others everything."""
    kind = headers_of(response).get(b"content-type", b"")
    return kind.partition(b";")[0].strip().lower() == b"application/json"


def _transport() -> Transport:
    return Transport(keepalive_connections=_KEEPALIVE_CONNECTIONS, keepalive_seconds=_KEEPALIVE_SECONDS)


def _http_client(
    settings: Settings, transport: Transport | None, timeout: httpx.Timeout
) -> httpx.AsyncClient:
    """With our own transport; where a proxy is set, httpx's, which knows how to use one.

    Neither follows a redirect: what users write goes to the server that is configured and to no other.
    """
    if transport is not None:
        return Client(transport=transport, timeout=timeout, follow_redirects=False)
    limits = httpx.Limits(
        # Admission bounds the turns of a worker; the pool must never be the narrower door.
        max_connections=settings.max_running_turns + 64,
        max_keepalive_connections=_KEEPALIVE_CONNECTIONS,
        keepalive_expiry=_KEEPALIVE_SECONDS,
    )
    return Client(limits=limits, timeout=timeout, follow_redirects=False)


def _other_way(sentence: str) -> UpstreamError:
    """The call was refused because it was streamed, or was not: the next one is asked the other way."""
    return UpstreamError("upstream_rejected", sentence, kind="streaming", retryable=True, retry_after=0)


async def _document(response: httpx.Response) -> dict[str, Any]:
    """The body of an error response as an object with `error`; {} where it is cut short or too long.

    The response keeps it, since it can be read only once.
    """
    said = response.extensions
    if _DOCUMENT not in said:
        body = await _parsed(response)
        said[_DOCUMENT] = body if not body or "error" in body else {"error": body}
    document: dict[str, Any] = said[_DOCUMENT]
    return document


async def _parsed(response: httpx.Response) -> dict[str, Any]:
    body = bytearray()
    try:
        async for data in response.aiter_bytes():
            body += data
            if len(body) > _MOST_REFUSAL_BYTES:
                return {}
        document = orjson.loads(body)
    except (orjson.JSONDecodeError, httpx.HTTPError, httpx.StreamError):
        return {}
    return document if isinstance(document, dict) else {}


def _limits(headers: Mapping[bytes, bytes]) -> Limits:
    def number(name: bytes) -> int | None:
        value = headers.get(name, b"")
        return int(value) if _NUMBER.fullmatch(value) else None

    return Limits(
        limit_requests=number(b"x-ratelimit-limit-requests"),
        remaining_requests=number(b"x-ratelimit-remaining-requests"),
        limit_tokens=number(b"x-ratelimit-limit-tokens"),
        remaining_tokens=number(b"x-ratelimit-remaining-tokens"),
    )
