"""API keys and tokens for tests: made in the store of a served service, without its HTTP."""

from __future__ import annotations

import time
from typing import Any

from service.store.credentials import Credentials, new_key
from tests.support.service import Served


def credentials_of(served: Served) -> Credentials:
    found: Credentials = served.app.state.edge.engine.store.credentials
    return found


async def make_key(served: Served, name: str = "test", **fields: Any) -> str:
    """The text of a new key; fields as in Credential (`expires` in s from now, may be negative)."""
    if "expires" in fields:
        fields["expires"] = int(time.time()) + fields["expires"]
    text, credential = new_key(name, **fields)
    await credentials_of(served).create(credential)
    return text


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def id_in(text: str) -> str:
    return text.split("_")[1]
