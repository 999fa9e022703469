"""SDKs leave the connections of a client open, and say so: what a test makes is closed after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

Opened = Callable[[Any], Any]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Gives back the SDK's client that it is given."""
    made: list[Any] = []

    def note(client: Any) -> Any:
        made.append(client)
        return client

    yield note
    for client in made:
        await client.close()
