"""The HTTP server of one process: bounded (http_protocol.py), and cutting nothing (chat_server.py)."""

from service.server.chat_server import ChatServer, grace_seconds, http_options, readable_url
from service.server.http_protocol import KEEP_ALIVE_SECONDS, BoundedHttp

__all__ = [
    "KEEP_ALIVE_SECONDS",
    "BoundedHttp",
    "ChatServer",
    "grace_seconds",
    "http_options",
    "readable_url",
]
