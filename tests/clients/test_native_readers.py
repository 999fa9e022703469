"""The native events as EventSource and fetch-based clients read them."""

from __future__ import annotations

import asyncio

from tests.clients.chats import running_text
from tests.double import expected_text
from tests.support.line import Line
from tests.support.node import Node
from tests.support.service import Served
from tests.support.waiting import eventually_async


async def begin(served: Served, message: str) -> str:
    answer = await served.client.post(
        "/v1/sessions/s/turns", json={"content": message}, headers={"Prefer": "respond-async"}
    )
    location: str = answer.headers["location"]
    return f"{location}/events"


async def test_an_event_source_survives_drops_and_closes_at_the_end(served: Served, node: Node) -> None:
    path = await begin(served, "[[tokens=200 rate=30]]")
    with Line(int(served.url.rpartition(":")[2])) as line:
        playing = asyncio.create_task(node.play("eventsource", "follow", url=f"{line.url}{path}"))
        for characters in (100, 400):

            async def beyond(characters: int = characters) -> bool:
                return len(await running_text(served, "s")) > characters

            await eventually_async(beyond, within=15)
            line.cut()
            line.mend()
        seen = await playing
    assert seen["text"] == expected_text(200)
    assert [number for number, _ in seen["events"]] == list(range(1, len(seen["events"]) + 1))
    assert seen["events"][-1][1] == "turn.completed"
    assert seen["opened"] >= 2
    assert seen["code"] == 204, "the server says that there is nothing more, and it closes"


async def test_a_finished_turn_replays_to_an_event_source(served: Served, node: Node) -> None:
    path = await begin(served, "[[tokens=30]]")
    for _ in range(2):
        seen = await node.play("eventsource", "follow", url=f"{served.url}{path}")
        assert (seen["text"], seen["code"]) == (expected_text(30), 204)


async def test_a_follower_of_the_location_goes_on_there(served: Served, node: Node) -> None:
    """POST, then GET the Location with Last-Event-ID: LangGraph's way."""
    seen = await node.play(
        "eventsource", "locate", url=served.url, session="s", message="[[tokens=60 rate=100]]", cutAfter=9
    )
    assert seen["text"] == expected_text(60)
    assert seen["ids"] == list(range(1, len(seen["ids"]) + 1))
    assert seen["ends"] == ["turn.started", "turn.completed"]
    assert seen["statuses"] == [200, 200, 204]
