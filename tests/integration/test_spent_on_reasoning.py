"""A reasoning model that spends its whole completion limit on thinking gives an answer that was cut."""

from __future__ import annotations

from tests.support.service import Served

WISH = "[[fault=empty reasoning=12]]"


async def test_openai_clients_get_200_and_finish_reason_length(served: Served) -> None:
    body = {"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": WISH}]}
    answer = await served.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"] or "") == ("length", "")
    assert answer.json()["usage"]["completion_tokens"] == 12
    streamed = await served.client.post("/v1/chat/completions", json={**body, "stream": True})
    assert streamed.status_code == 200
    assert '"finish_reason":"length"' in streamed.text
    assert '"error"' not in streamed.text


async def test_text_ends_cleanly_and_empty(served: Served) -> None:
    answer = await served.client.post("/chat", json={"user_query": WISH})
    assert (answer.status_code, answer.text) == (200, "")


async def test_the_turn_is_completed_and_the_session_goes_on(served: Served) -> None:
    events = await served.client.post("/v1/sessions/s/turns", json={"content": WISH})
    assert "event: turn.completed" in events.text
    assert '"finish_reason":"length"' in events.text
    turn = (await served.client.get(f"/v1/sessions/s/turns/{events.headers['x-turn-id']}")).json()
    assert (turn["state"], turn["finish_reason"], turn["text"]) == ("completed", "length", "")
    again = await served.client.post("/v1/sessions/s/turns", json={"content": "[[tokens=2]]"})
    assert "event: turn.completed" in again.text
