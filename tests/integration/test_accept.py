"""`Accept` and `Prefer` of a turn: its events, or the turn itself at once."""

from __future__ import annotations

import pytest

from tests.support.service import Served


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"Prefer": "Respond-Async, wait=10"}, "application/json"),
        ({"Accept": "application/json"}, "application/json"),
        ({"Accept": "Application/JSON; charset=utf-8, */*"}, "application/json"),
        ({"Accept": "text/event-stream, application/json"}, "text/event-stream; charset=utf-8"),
        ({"Accept": "*/*"}, "text/event-stream; charset=utf-8"),
        ({"Accept": "application/json;q=0, text/event-stream"}, "text/event-stream; charset=utf-8"),
        ({"Accept": "application/json;q=0"}, "text/event-stream; charset=utf-8"),
        ({"Accept": "application/json;q=0.2, text/event-stream"}, "text/event-stream; charset=utf-8"),
        ({"Accept": "text/event-stream;q=0.1, application/json"}, "application/json"),
        ({"Accept": "text/plain, application/json, */*"}, "application/json"),
        ({"Accept": "*/*;q=0.1, application/*"}, "application/json"),
        ({"Prefer": 'wait=10; x="respond-async"'}, "text/event-stream; charset=utf-8"),
        ({"Prefer": "wait=10, respond-async"}, "application/json"),
    ],
)
async def test_who_asks_for_the_turn_gets_it_and_others_its_events(
    served: Served, headers: dict[str, str], kind: str
) -> None:
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": "[[say=hi]]"}, headers=headers)
    assert answer.headers["content-type"] == kind
    assert answer.status_code == (202 if kind == "application/json" else 200)
