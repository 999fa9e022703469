"""Groq through its SDK: one attempt at a time, decoded from raw bytes.

The SDK brings authentication, URL and headers; retries are the engine's. Its objects per chunk
(5x the CPU) and what it makes of each request and response (four fifths of a call's 0.2 ms) are
bypassed. Every failure, the transport's own exceptions included, leaves here as UpstreamError.
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
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
from service.upstream.chunks import Decoder, cut_short, garbled
from service.upstream.formats import Formats
from service.upstream.models import Model
from service.upstream.refusals import is_redirect, is_unknown_url, refusal
from service.upstream.transport import SENT, Body, Transport

_CONNECT_SECONDS: Final = 5.0
# The runner has timers of its own; these only bound what they cannot see.
_READ_SECONDS: Final = 3600.0
_POOL_SECONDS: Final = 5.0
_KEEPALIVE_CONNECTIONS: Final = 256
_KEEPALIVE_SECONDS: Final = 60.0
# Before a connection is tried again: the mean of the first pause, which doubles. Half as long at least and
# half as long again at most, so that the calls of a worker do not come all at once.
_PAUSE_SECONDS: Final = 0.05
# The connection was not there yet: the provider has not seen the call.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

# Of an error response. Groq's have 1 KB, and with what a model made wrong its longest answer.
_MOST_REFUSAL_BYTES: Final = 1_048_576
_DOCUMENT: Final = "document"  # of an error response, in its extensions
_NUMBER: Final = re.compile(r"[0-9]{1,15}")

# Keys that are known at once; replaced ones are forgotten beyond it.
_MOST_KEYS: Final = 64

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


class _NoCookies(httpx.Cookies):
    """An API has no use for cookies: looking for them is a quarter of what a call costs here."""

    def extract_cookies(self, response: httpx.Response) -> None:
        pass


class _Client(httpx.AsyncClient):
    _none = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._none

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        raise AttributeError("this client keeps no cookies")


class Groq:
    def __init__(self, settings: Settings) -> None:
        timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS, pool=_POOL_SECONDS)
        self._http = _http_client(settings, timeout)
        self._client = groq.AsyncGroq(
            api_key="none",  # each call brings its own
            max_retries=0,
            timeout=timeout,
            http_client=self._http,
            default_headers={"Accept-Encoding": "identity"},
        )
        self._formats = Formats()
        # What is the same for all calls is made once.
        self._urls = [httpx.URL(f"{root}/chat/completions") for root in roots(settings.groq_base_url)]
        url = self._urls[0]  # all are of one server
        self._server = (url.host, url.port or (443 if url.scheme == "https" else 80))
        said = self._client.default_headers.items()
        self._common = {name: value for name, value in said if isinstance(value, str)}
        self._headers: dict[str, httpx.Headers] = {}  # by API key
        self._extensions = {"timeout": timeout.as_dict()}

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def call(self, request: Request) -> AsyncIterator[GroqAnswer | WholeAnswer]:
        """One attempt. Raises UpstreamError; leaving the block closes a response that has not ended."""
        params: dict[str, Any] = {
            "model": request.model.id,
            "messages": request.messages,
            "stream": not request.whole,
            "max_completion_tokens": request.max_completion_tokens,
        }
        if not request.whole:
            params["stream_options"] = {"include_usage": True}
        params |= {name: request.params[name] for name in PASSED_ON if request.params.get(name) is not None}
        request.server = self._server
        response = await self._find(orjson.dumps(params), request)
        try:
            async with _closing(response):
                if not response.is_success:
                    request.billable = False
                    raise refusal(response.status_code, await _document(response), response.headers)
                yield WholeAnswer(response) if _is_whole(response) else GroqAnswer(response)
        except UpstreamError as error:
            if error.kind == "rejected" and self._formats.refused(
                request.model, request.params, error.message, whole=request.whole
            ):
                raise _other_way(error.message) from None
            raise

    def streams(self, model: Model, params: dict[str, Any]) -> bool:
        return self._formats.streams(model, params)

    async def _find(self, content: bytes, request: Request) -> httpx.Response:
        """The head of the response at the first address that there is; from then on that is the address."""
        urls = self._urls
        for url in urls:
            response = await self._send(url, content, request)
            if response.is_success:
                if len(urls) > 1:
                    self._urls = [url]
                break
            if not await _is_elsewhere(response):
                break
            if url is urls[-1]:
                log.error(
                    "upstream.not_found", url=without_credentials(str(url)), status=response.status_code
                )
                break
            async with _closing(response):
                pass
        return response

    async def _send(self, url: httpx.URL, content: bytes, request: Request) -> httpx.Response:
        """Returns with the head of the response, whatever its status."""
        headers = self._headers_of(request.api_key)
        if request.traceparent:
            headers = httpx.Headers({**headers, "traceparent": request.traceparent})
        call = httpx.Request("POST", url, headers=headers, content=content, extensions=self._extensions)
        try:
            return await self._sent(call, asyncio.get_running_loop().time() + request.patience)
        finally:
            request.billable = SENT in call.extensions

    def _headers_of(self, api_key: str) -> httpx.Headers:
        """Made once for a key, since calls are many and keys are few."""
        headers = self._headers.get(api_key)
        if headers is None:
            if len(self._headers) >= _MOST_KEYS:
                self._headers.clear()
            bearer = f"Bearer {api_key or 'none'}"
            headers = self._headers[api_key] = httpx.Headers({**self._common, "Authorization": bearer})
        return headers

    async def _sent(self, call: httpx.Request, until: float) -> httpx.Response:
        """A call that has not left is tried again; one of which the provider may have seen a byte is not."""
        pause = _PAUSE_SECONDS
        while True:
            if not isinstance(self._http, _Client):
                call.extensions[SENT] = True  # behind a proxy nobody says when; only that it was not
            try:
                return await self._http.send(call, stream=True)
            except _NOT_SENT as error:
                call.extensions.pop(SENT, None)
                wait = pause * random.uniform(0.5, 1.5)
                if asyncio.get_running_loop().time() + wait > until:
                    raise _unreachable(error) from error
            except (httpx.HTTPError, TimeoutError) as error:
                raise _unreachable(error) from error
            await asyncio.sleep(wait)
            pause *= 2


class GroqAnswer:
    """The tokens of one response, decoded where they arrive."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._body: Body | None = response.extensions.get("body")  # of our own transport
        self._decoder = Decoder()
        self._on_batch: OnBatch
        self._pause: Awaitable[None] | None = None
        self._failure: UpstreamError | None = None
        self.limits = _limits(response.headers)
        self.gate: Gate | None = self._body

    @property
    def said(self) -> dict[str, Any]:
        return self._decoder.said

    async def read_into(self, on_batch: OnBatch) -> None:
        """Raises UpstreamError."""
        decoder = self._decoder
        try:
            if self._body is not None:
                await self._read_into(self._body, on_batch)
            else:
                async for data in self._response.aiter_raw():
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
        """In the callback that brings it. True where whoever waits for the body has to go on."""
        decoder = self._decoder
        try:
            self._pause = self._on_batch(decoder.feed(data))
            self._failure = decoder.failure
        except UpstreamError as error:  # is for whoever waits, not for the connection
            self._failure = error
        return self._pause is not None or self._failure is not None or decoder.done


class WholeAnswer:
    """One response that is not a stream, decoded when all of it is there."""

    gate: Gate | None = None

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.limits = _limits(response.headers)
        self.said: dict[str, Any] = {}

    async def read_into(self, on_batch: OnBatch) -> None:
        """Raises UpstreamError."""
        body = bytearray()
        try:
            async for data in self._response.aiter_raw():
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
        async with _closing(response):  # whoever leaves now has no response to close
            raise


def _is_whole(response: httpx.Response) -> bool:
    """Whatever was asked for: servers are known that stream nothing, and others that stream everything."""
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "application/json"


@asynccontextmanager
async def _closing(response: httpx.Response) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with suppress(httpx.TransportError, httpx.StreamError):  # what is let go has nothing more to say
            await response.aclose()
        # httpx ties a response and its stream together: without this only the garbage collector,
        # which stops the whole worker, could free them.
        del response.stream


def _http_client(settings: Settings, timeout: httpx.Timeout) -> httpx.AsyncClient:
    """Our own transport; where a proxy is set, httpx's, which knows how to use one.

    Neither follows a redirect: what users write goes to the server that is configured and to no other.
    """
    if has_proxy(settings.groq_base_url or GROQ):
        limits = httpx.Limits(
            # Admission bounds the turns of a worker; the pool must never be the narrower door.
            max_connections=settings.max_running_turns + 64,
            max_keepalive_connections=_KEEPALIVE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_SECONDS,
        )
        return _Client(limits=limits, timeout=timeout, follow_redirects=False)
    transport = Transport(keepalive_connections=_KEEPALIVE_CONNECTIONS, keepalive_seconds=_KEEPALIVE_SECONDS)
    return _Client(transport=transport, timeout=timeout, follow_redirects=False)


def _other_way(sentence: str) -> UpstreamError:
    """Refused for being streamed, or for not being: the next call is the other."""
    return UpstreamError("upstream_rejected", sentence, kind="streaming", retryable=True, retry_after=0)


def _unreachable(error: BaseException) -> UpstreamError:
    cause = error.__cause__
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    if cause is not None and cause.errno in (errno.EMFILE, errno.ENFILE):
        return UpstreamError(
            "overloaded", "This replica has no file descriptor left.", kind="connect", retryable=True
        )
    return UpstreamError(
        "upstream_unavailable", "The model cannot be reached.", kind="connect", retryable=True
    )


async def _document(response: httpx.Response) -> dict[str, Any]:
    """What an error response says, as an object with `error`; of one that is cut short, or too long, nothing.

    Kept with the response, which is read once.
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


def _limits(headers: httpx.Headers) -> Limits:
    said = dict(headers.items())  # httpx goes through all headers for each that is asked for

    def number(name: str) -> int | None:
        value = said.get(f"x-ratelimit-{name}", "")
        return int(value) if _NUMBER.fullmatch(value) else None

    return Limits(
        limit_requests=number("limit-requests"),
        remaining_requests=number("remaining-requests"),
        limit_tokens=number("limit-tokens"),
        remaining_tokens=number("remaining-tokens"),
    )
