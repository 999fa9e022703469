"""Calls: HTTP requests to the provider, from their bytes to the head of a response.

httpx's work for a request takes longer than the rest of a call. So the head of a request is made once per API
key, and our own transport is called directly; behind a proxy httpx is used. Every failure leaves here as
UpstreamError. The content of requests and answers is groq.py's.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import httpx

from service.errors import UpstreamError
from service.upstream.base import Request
from service.upstream.refusals import unavailable
from service.upstream.transport import SENT, Head, Transport, origin_of, serialized

# Mean pause before a connection is tried again the first time; it doubles each time. A pause is 0.5 to 1.5
# times as long, so that the calls of a worker do not come all at once.
_PAUSE_SECONDS: Final = 0.05
# Errors before there was a connection: the provider has not seen the call.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

# API keys whose heads are kept; beyond it all are made anew, so that replaced keys are forgotten.
_MOST_KEYS: Final = 64

#: httpx's for refusals, and for all answers behind a proxy
Response = Head | httpx.Response


class _NoCookies(httpx.Cookies):
    """An API has no use for cookies."""

    def extract_cookies(self, response: httpx.Response) -> None:
        pass


class Client(httpx.AsyncClient):
    _none = _NoCookies()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._none

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        raise AttributeError("this client keeps no cookies")


class Address:
    """Where calls go. The head of a request is made once per API key."""

    def __init__(self, url: httpx.URL, common: dict[str, str]) -> None:
        self.url = url
        self.origin = origin_of(url)
        self._common = common
        self._heads: dict[str, bytes] = {}  # by API key

    def request(self, call: Request, content: bytes = b"") -> httpx.Request:
        headers = {**self._common, "Authorization": f"Bearer {call.api_key or 'none'}"}
        request = httpx.Request("POST", self.url, headers=headers, content=content)
        if self.url.userinfo:
            return next(httpx.BasicAuth(self.url.username, self.url.password).sync_auth_flow(request))
        return request

    def message(self, call: Request, content: bytes) -> bytes:
        """The request as bytes."""
        head = self._heads.get(call.api_key)
        if head is None:
            if len(self._heads) >= _MOST_KEYS:
                self._heads.clear()
            request = self.request(call)
            del request.headers["content-length"]
            head = self._heads[call.api_key] = serialized(request, b"")[:-2]
        trace = f"traceparent: {call.traceparent}\r\n".encode() if call.traceparent else b""
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, trace, len(content), content)


class Calls:
    def __init__(self, http: httpx.AsyncClient, direct: Transport | None, timeout: httpx.Timeout) -> None:
        self.http = http
        self.direct = direct
        self._extensions = {"timeout": timeout.as_dict()}

    async def send(self, address: Address, content: bytes, request: Request) -> Response:
        """Returns with the head of the response, whatever its status.

        A call that has not left is tried again; one of which the provider may have seen a byte is not.
        """
        until = asyncio.get_running_loop().time() + request.patience
        pause, noted = _PAUSE_SECONDS, dict(self._extensions)
        try:
            while True:
                try:
                    return await self._ask(address, content, request, noted)
                except _NOT_SENT as error:
                    noted.pop(SENT, None)
                    wait = pause * random.uniform(0.5, 1.5)
                    if asyncio.get_running_loop().time() + wait > until:
                        raise _unreachable(error) from error
                except (httpx.HTTPError, TimeoutError) as error:
                    raise _unreachable(error) from error
                await asyncio.sleep(wait)
                pause *= 2
        finally:
            request.billable = SENT in noted

    async def _ask(
        self, address: Address, content: bytes, request: Request, noted: dict[str, Any]
    ) -> Response:
        if self.direct is not None:
            head = await self.direct.ask(address.origin, address.message(request, content), noted)
            return head if head.status < 300 else head.response()
        noted[SENT] = True  # httpx does not say when it has sent; only, by an error, that it has not
        call = address.request(request, content)
        call.extensions |= self._extensions
        if request.traceparent:
            call.headers["traceparent"] = request.traceparent
        return await self.http.send(call, stream=True)


def headers_of(response: Response) -> Mapping[bytes, bytes]:
    if isinstance(response, Head):
        return response.headers
    return {name.lower(): value for name, value in response.headers.raw}


async def close(response: Response) -> None:
    with suppress(httpx.TransportError, httpx.StreamError):  # nobody wants this response any more
        await response.aclose()
    if isinstance(response, httpx.Response):
        # httpx ties a response and its stream together: without this only the garbage collector,
        # which stops the whole worker, could free them.
        del response.stream


def _unreachable(error: BaseException) -> UpstreamError:
    cause = error.__cause__
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    if cause is not None and cause.errno in (errno.EMFILE, errno.ENFILE):
        return UpstreamError(
            "overloaded", "This replica has no file descriptor left.", kind="connect", retryable=True
        )
    return unavailable("connect", "The model cannot be reached.", retryable=True)
