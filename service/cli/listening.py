"""The sockets that `run` and `serve` take before anything else is started.

A port that is in use is found at once, and said in a sentence (`Refused`).
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from service.config.settings import Settings

#: exit code, as a shell says it of Ctrl-C
INTERRUPTED: Final = 130


class Refused(Exception):
    """What was asked for cannot be done; the message is one sentence."""


def listen_for_metrics(settings: Settings) -> list[socket.socket]:
    if settings.metrics_port is None:
        return []
    return listen(settings, settings.metrics_port, "CHAT_METRICS_PORT")


def listen(settings: Settings, port: int, name: str = "CHAT_PORT") -> list[socket.socket]:
    """Listening sockets of an address, as early as possible: a port in use is found at once."""
    try:
        addresses = socket.getaddrinfo(
            settings.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise Refused(f"CHAT_HOST {settings.host} is no address ({error.strerror}).") from error
    # Without an IPv4 address of its own, `::` takes IPv4 too, as Gunicorn's listener does.
    apart = any(address[0] == socket.AF_INET for address in addresses)
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(addresses):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, apart)
        try:
            listener.bind(address)
            # Two processes may have bound the same address, one may listen. Enough for scrapers, which
            # are few; a server of the API listens again, with a backlog of its own.
            listener.listen(16)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    f"Port {port} of {settings.host} is in use: stop what uses it, or set {name}."
                ) from error
            if error.errno == errno.EADDRNOTAVAIL and bound:
                continue  # "localhost" names ::1 also where IPv6 is off
            raise Refused(
                f"{settings.host}:{port} cannot be listened on ({error.strerror}): set CHAT_HOST and {name}."
            ) from error
        bound.append(listener)
    return bound
