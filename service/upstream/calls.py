"""Calls: HTTP requests to the provider, from their bytes to the head of a response.

What httpx does for each request takes longer than all else that a call takes here. So what is the same for
all calls is made once, and our own transport is asked directly; where there is a proxy httpx is asked. Every
failure leaves here as UpstreamError. What is said and answered is groq.py's.
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

# Before a connection is tried again: the mean of the first pause, which doubles. Half as long at least and
# half as long again at most, so that the calls of a worker do not come all at once.
_PAUSE_SECONDS: Final = 0.05
# The connection was not there yet: the provider has not seen the call.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

# Keys that are known at once; replaced ones are forgotten beyond it.
_MOST_KEYS: Final = 64

#: httpx's, of a refusal and behind a proxy
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
    """Where calls go. What is the same in all calls with one key is made once, since keys are few."""

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
        """The same as bytes."""
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
        noted[SENT] = True  # behind a proxy nobody says when; only that it was not
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
    with suppress(httpx.TransportError, httpx.StreamError):  # what is let go has nothing more to say
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
