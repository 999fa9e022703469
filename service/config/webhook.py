"""Checks of CHAT_WEBHOOK_URL and CHAT_WEBHOOK_SECRET, and of the webhook of an API key."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from service.config.validators import check_http_url

_PLAIN: Final = re.compile(r"[!-~]{1,2000}")


def key_of(secret: SecretStr) -> bytes:
    """The bytes that `whsec_...` (Standard Webhooks) stands for. Raises ValueError, with a sentence."""
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError(
            "CHAT_WEBHOOK_SECRET: is whsec_ and base64 of 24 to 64 bytes (whsec_ and openssl rand -base64 32)"
        )
    return key


def new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def check_receiver(url: str, *, private: bool) -> None:
    """Checks the URL of an API key's webhook; that its address is public, at each try. Raises ValueError."""
    if not _PLAIN.fullmatch(url):
        raise ValueError("the URL has at most 2,000 characters, of ASCII and without blanks")
    check_http_url(url)
    _check_place(url, private)


def _check_place(url: str, private: bool) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("may hold no password; the receiver checks the signature")
    if parts.scheme != "https" and not private:
        raise ValueError("is https://, unless CHAT_WEBHOOK_ALLOW_PRIVATE=true")


def check_webhook(url: str, secret: SecretStr | None, *, private: bool) -> None:
    """Raises ValueError, with a sentence."""
    try:
        _check_place(url, private)
    except ValueError as error:
        raise ValueError(f"CHAT_WEBHOOK_URL: {error}") from None
    if secret is None:
        raise ValueError(
            "CHAT_WEBHOOK_SECRET: is missing; what is sent to CHAT_WEBHOOK_URL is signed with it"
        )
    key_of(secret)
