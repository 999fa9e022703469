"""What CHAT_WEBHOOK_URL and CHAT_WEBHOOK_SECRET may say."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

from pydantic import SecretStr


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


def check_webhook(url: str, secret: SecretStr | None, *, private: bool) -> None:
    """Raises ValueError, with a sentence."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("CHAT_WEBHOOK_URL: may hold no password; the receiver checks the signature")
    if parts.scheme != "https" and not private:
        raise ValueError("CHAT_WEBHOOK_URL: is https://, unless CHAT_WEBHOOK_ALLOW_PRIVATE=true")
    if secret is None:
        raise ValueError(
            "CHAT_WEBHOOK_SECRET: is missing; what is sent to CHAT_WEBHOOK_URL is signed with it"
        )
    key_of(secret)
