"""One try to tell a webhook's receiver: signed as Standard Webhooks has it, sent to a public address.

Invariants: the address that is checked is the one that is called; nothing is followed (a redirect is a
failure); of the reply the status line is read and no more; a try has a bound. No repeats here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from functools import cache
from typing import Final
from urllib.parse import urlsplit

_TRY_SECONDS: Final = 10.0
_LONGEST_LINE: Final = 1_024


class NotTold(Exception):
    """The receiver did not take the message; the text is for the log. `final`: it never will (410)."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def signature(key: bytes, id: str, seconds: int, body: bytes) -> str:
    made = hmac.new(key, b"%b.%d.%b" % (id.encode(), seconds, body), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}"


async def tell(url: str, key: bytes, id: str, body: bytes, *, private: bool) -> None:
    """Raises NotTold."""
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            status = await _post(url, key, id, body, private=private)
    except TimeoutError as error:
        raise NotTold("no answer in time") from error
    except (OSError, ValueError) as error:
        raise NotTold(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        raise NotTold(f"status {status}", final=status == 410)


async def _post(url: str, key: bytes, id: str, body: bytes, *, private: bool) -> int:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = await _address(host, port, private=private)
    reader, writer = await asyncio.open_connection(
        address, port, ssl=_context() if secure else None, server_hostname=host if secure else None
    )
    try:
        now = int(time.time())
        path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            f"User-Agent: chat-service\r\nwebhook-id: {id}\r\nwebhook-timestamp: {now}\r\n"
            f"webhook-signature: {signature(key, id, now, body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        line = (await reader.readuntil(b"\n"))[:_LONGEST_LINE].split()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise NotTold("no status line") from error
    finally:
        writer.transport.abort()
    if len(line) < 2 or not line[0].startswith(b"HTTP/1.") or not line[1].isdigit():
        raise NotTold("no status line")
    return int(line[1])


async def _address(host: str, port: int, *, private: bool) -> str:
    """One of the host's addresses. Of several none may be private: the next try could be that one."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    if not private and not all(_public(address) for address in addresses):
        raise NotTold("its address is not public (CHAT_WEBHOOK_ALLOW_PRIVATE)")
    return addresses[0]


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
