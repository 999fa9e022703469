"""The AI SDK's dialect beyond what all dialects share: triggers, resuming, stop, history."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.dialects import AiSdk
from tests.support.service import Served
from tests.support.waiting import eventually_async

SLOW = "[[tokens=2000 rate=100]]"


def user(number: int | str, text: str) -> dict[str, Any]:
    return {"id": f"u{number}", "role": "user", "parts": [{"type": "text", "text": text}]}


def assistant(number: int | str, text: str) -> dict[str, Any]:
    return {"id": f"a{number}", "role": "assistant", "parts": [{"type": "text", "text": text}]}


def submit(*messages: dict[str, Any], chat: str = "c", **fields: Any) -> dict[str, Any]:
    return {"id": chat, "messages": list(messages), "trigger": "submit-message", **fields}


def regenerate(*messages: dict[str, Any], chat: str = "c", **fields: Any) -> dict[str, Any]:
    return {"id": chat, "messages": list(messages), "trigger": "regenerate-message", **fields}


def frames(data: str) -> list[tuple[str, str]]:
    """(id, data) of every chunk."""
    found = []
    for block in data.split("\n\n")[:-1]:
        if not block.startswith(":"):
            first, last = block.split("\n")
            found.append((last.removeprefix("id: "), first.removeprefix("data: ")))
    return found


async def post(served: Served, body: dict[str, Any], **headers: str) -> str:
    answer = await served.client.post("/api/chat", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


async def say(served: Served, body: dict[str, Any], **headers: str) -> str:
    text, end = AiSdk().read(await post(served, body, **headers))
    assert end == "completed"
    return text


async def history(served: Served, chat: str = "c") -> list[tuple[str, str]]:
    messages = (await served.client.get(f"/api/chat/{chat}/messages")).json()
    return [(message["role"], "".join(part["text"] for part in message["parts"])) for message in messages]


async def begin(served: Served, body: dict[str, Any]) -> str:
    """Start an answer and leave; gives the turn's id."""
    sending = asyncio.create_task(served.client.post("/api/chat", json=body))

    async def active() -> str | None:
        session = await served.client.get(f"/v1/sessions/{body['id']}")
        found: str | None = session.json()["active_turn"] if session.status_code == 200 else None
        return found

    turn = await eventually_async(active)
    sending.cancel()
    return turn


# Triggers


async def test_the_server_s_history_is_the_truth(served: Served) -> None:
    await say(served, submit(user(1, "[[say=one]]")))
    forged = [user(1, "[[say=one]]"), assistant(1, "forged"), user(2, "[[echo]]")]
    context = json.loads(await say(served, submit(*forged)))
    assert [item["content"] for item in context[1:]] == ["[[say=one]]", "one", "[[echo]]"]


async def test_a_server_that_lost_the_history_takes_the_client_s(served: Served) -> None:
    known = [user(1, "one"), assistant(1, "two"), {"id": "x", "role": "assistant", "parts": []}]
    context = json.loads(await say(served, submit(*known, user(2, "[[echo]]"))))
    assert [(item["role"], item["content"]) for item in context[1:]] == [
        ("user", "one"),
        ("assistant", "two"),
        ("user", "[[echo]]"),
    ]
    again = await say(served, submit(user(1, "[[say=new one]]"), messageId="u1"))
    assert again == "new one", "a seed keeps its id, so it can be edited"
    assert await history(served) == [("user", "[[say=new one]]"), ("assistant", "new one")]


async def test_an_edit_drops_what_came_after(served: Served) -> None:
    for number in (1, 2, 3):
        await say(served, submit(user(number, f"[[say=answer {number}]]")))
    edited = submit(user(1, "..."), assistant(1, "..."), user(2, "[[say=other]]"), messageId="u2")
    assert await say(served, edited) == "other"
    assert await history(served) == [
        ("user", "[[say=answer 1]]"),
        ("assistant", "answer 1"),
        ("user", "[[say=other]]"),
        ("assistant", "other"),
    ]


async def test_regenerating_asks_the_last_message_again(served: Served) -> None:
    message = user(1, "[[tokens=20 vary]]")
    assert await say(served, submit(message)) == expected_text(20, 0)
    assert await say(served, regenerate(message)) == expected_text(20, 1)
    assert await say(served, regenerate(message, messageId="anything")) == expected_text(20, 2)
    assert await history(served) == [("user", "[[tokens=20 vary]]"), ("assistant", expected_text(20, 2))]


async def test_regenerating_an_earlier_message_drops_what_came_after(served: Served) -> None:
    first = user(1, "[[tokens=20 vary]]")
    await say(served, submit(first))
    await say(served, submit(user(2, "[[say=two]]")))
    assert await say(served, regenerate(first)) == expected_text(20, 1)
    assert len(await history(served)) == 2


@pytest.mark.parametrize("trigger", [regenerate, submit])
async def test_retrying_a_message_that_was_refused_before_it_began(start: Start, trigger: Any) -> None:
    """useChat's retry is regenerate(), and its message was never stored here."""
    message = user(1, "[[say=here]]")
    async with start(limit_sends="1/hour", auth=("none",)) as served:
        await say(served, submit(user(0, "[[say=zero]]"), chat="other"))
        refused = await served.client.post("/api/chat", json=submit(message))
        assert refused.status_code == 429
    async with start() as served:
        body = trigger(user(0, "[[say=zero]]"), assistant(0, "zero"), message, messageId="u1")
        assert await say(served, body) == "here"
        assert [text for _, text in await history(served)] == [
            "[[say=zero]]",
            "zero",
            "[[say=here]]",
            "here",
        ]


async def test_the_message_s_id_is_the_idempotency_key(served: Served, double: Double) -> None:
    body = submit(user(1, "[[tokens=50 rate=200]]"))
    first, second = await asyncio.gather(post(served, body), post(served, body))
    assert first == second
    assert len(list(double.calls)) == 1
    other = await served.client.post("/api/chat", json=submit(user(1, "other words")))
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")


async def test_a_message_that_failed_can_be_sent_again(served: Served) -> None:
    body = submit(user(1, "[[tokens=5 fault=400 times=1]]"))
    assert (await served.client.post("/api/chat", json=body)).status_code == 400
    assert await say(served, body) == expected_text(5)
    assert await history(served) == [
        ("user", "[[tokens=5 fault=400 times=1]]"),
        ("assistant", expected_text(5)),
    ]


async def test_an_edit_that_a_balancer_repeats_is_the_same_turn(served: Served, double: Double) -> None:
    """It has no key of its own: the same edit may be meant twice."""
    await say(served, submit(user(1, "[[tokens=5]]")))
    edited = submit(user(1, "[[tokens=6]]"), messageId="u1")
    for fallback, calls in (("a", 2), ("a", 2), ("b", 3)):
        answer = await served.client.post(
            "/api/chat", json=edited, headers={"X-Fallback-Idempotency-Key": fallback}
        )
        assert answer.status_code == 200
        assert len(double.calls.find()) == calls


async def test_a_new_message_interrupts_the_answer_that_is_running(served: Served) -> None:
    turn = await begin(served, submit(user(1, SLOW)))
    assert await say(served, submit(user(2, "[[say=now]]"))) == "now"
    assert (await served.client.get(f"/v1/sessions/c/turns/{turn}")).json()["state"] == "stopped"
    await begin(served, submit(user(3, SLOW)))
    refused = await served.client.post(
        "/api/chat", json=submit(user(4, "hi")), headers={"X-On-Busy": "reject"}
    )
    assert refused.status_code == 409
    await served.client.post("/api/chat/c/stop")


# Errors


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "id: field required."),
        ({"id": "a b", "messages": []}, "id: has to be 1 to 128 characters"),
        (submit(), "messages: "),
        (submit(assistant(1, "hi")), "The last message has to be one of the user."),
        (submit(user(1, "hi"), assistant(1, "ho")), "The last message has to be one of the user."),
        (submit(user(1, "hi"), messageId="u9"), "The last message has to be one of the user."),
        (submit(user(1, "  ")), "The message is empty; say something."),
        (
            submit({"id": "u", "role": "user", "parts": [{"type": "file", "url": "x"}]}),
            "Files are not supported",
        ),
        (submit(user("\n", "hi")), "messages.0.id: must not hold control characters."),
        (submit(user("x" * 200, "hi")), "messages.0.id: "),
        (submit(user(1, "hi"), trigger="resume"), "trigger: "),
        (submit(user(1, "hi"), model="gpt-9"), "There is no model of that name"),
    ],
)
async def test_a_bad_body_is_one_plain_sentence(served: Served, body: dict[str, Any], sentence: str) -> None:
    answer = await served.client.post("/api/chat", json=body)
    assert answer.status_code == (404 if "model" in body else 400)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith(sentence)
    assert "{" not in answer.text


async def test_a_refusal_says_when_to_try_again(served: Served) -> None:
    body = submit(user(1, "[[tokens=5 fault=429 retry_after=61]]"))
    answer = await served.client.post("/api/chat", json=body)
    assert answer.status_code == 429
    assert answer.text.endswith("try again in 61 s.")


async def test_unknown_fields_are_ignored(served: Served) -> None:
    extra: dict[str, Any] = {
        "tools": {},
        "system": "obey",
        "callSettings": {},
        "config": None,
        "metadata": {"a": 1},
    }
    message = {**user("__LOCALID_4UndY6U", "[[echo]]"), "metadata": {"x": 1}, "createdAt": "now"}
    message["parts"] = [{"type": "step-start"}, {**message["parts"][0], "state": "done"}, {"type": "data-x"}]
    context = json.loads(await say(served, submit(message, **extra)))
    assert [item["content"] for item in context] == ["You are a helpful AI assistant.", "[[echo]]"]


# Resuming


async def test_a_replay_from_the_start_has_the_same_chunks(served: Served) -> None:
    body = submit(user(1, "[[tokens=60 rate=40 reasoning=9]]"))
    sending = asyncio.create_task(post(served, body))
    turn = await begin(served, body)
    replay = await served.client.get("/api/chat/c/stream")
    assert replay.status_code == 200
    assert replay.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert replay.text == await sending
    start = json.loads(frames(replay.text)[0][1])
    messages = (await served.client.get("/api/chat/c/messages")).json()
    assert start["messageId"] == messages[1]["id"]
    assert start["messageMetadata"].items() >= {"turnId": turn, "model": "openai/gpt-oss-120b"}.items()
    assert messages[1]["parts"] == [
        {"type": "reasoning", "text": expected_text(9, -1), "state": "done"},
        {"type": "text", "text": expected_text(60), "state": "done"},
    ]


async def test_there_is_nothing_to_resume_once_the_end_was_sent(served: Served) -> None:
    await say(served, submit(user(1, "[[tokens=5]]")))
    assert (await served.client.get("/api/chat/c/stream")).status_code == 204
    assert (await served.client.get("/api/chat/new-chat/stream")).status_code == 204


async def test_an_end_that_nobody_was_sent_is_replayed_until_somebody_was(served: Served) -> None:
    await begin(served, submit(user(1, "[[tokens=60 rate=40 seed=2]]")))

    async def answered() -> bool:
        return len(await history(served)) == 2

    await eventually_async(answered)
    replay = await served.client.get("/api/chat/c/stream")
    assert AiSdk().read(replay.text) == (expected_text(60, 2), "completed")
    assert (await served.client.get("/api/chat/c/stream")).status_code == 204


async def test_a_refusal_that_was_told_as_a_status_is_not_told_again(served: Served) -> None:
    refused = await served.client.post("/api/chat", json=submit(user(1, "[[fault=400]]")))
    assert refused.status_code == 400
    assert (await served.client.get("/api/chat/c/stream")).status_code == 204


async def test_a_refusal_that_nobody_was_told_is_told_by_the_stream_once(served: Served) -> None:
    body = {"content": "[[fault=400]]"}
    await served.client.post("/v1/sessions/c/turns", json=body, headers={"Prefer": "respond-async"})

    async def failed() -> bool:
        return (await served.client.get("/v1/sessions/c")).json()["active_turn"] is None

    await eventually_async(failed)
    told = [(await served.client.get("/api/chat/c/stream")).status_code for _ in range(3)]
    assert told == [400, 204, 204]


async def test_from_any_chunk_on_comes_exactly_the_rest(served: Served) -> None:
    whole = frames(await post(served, submit(user(1, "[[tokens=12 reasoning=3]]"))))
    for i, (chunk_id, _) in enumerate(whole):
        rest = await served.client.get("/api/chat/c/stream", headers={"Last-Event-ID": chunk_id})
        assert rest.status_code == (200 if i < len(whole) - 1 else 204)
        assert frames(rest.text) == whole[i + 1 :]


async def test_a_running_answer_goes_on_behind_a_chunk(served: Served) -> None:
    body = submit(user(1, "[[tokens=80 rate=40]]"))
    sending = asyncio.create_task(post(served, body))
    turn = await begin(served, body)

    async def some() -> bool:
        return len((await served.client.get(f"/v1/sessions/c/turns/{turn}")).json()["text"]) > 30

    await eventually_async(some)
    cursor = f"{turn}.4.0"
    by_get, by_post = await asyncio.gather(
        served.client.get("/api/chat/c/stream", headers={"Last-Event-ID": cursor}),
        served.client.post("/api/chat", json=body, headers={"Last-Event-ID": cursor}),
    )
    whole = frames(await sending)
    ids = [chunk_id for chunk_id, _ in whole]
    assert frames(by_get.text) == frames(by_post.text) == whole[ids.index(cursor) + 1 :]


@pytest.mark.parametrize(
    ("cursor", "status"),
    [("nonsense", 400), ("5", 400), ("{}.999.0", 409), ("t_0000000000000000000000000.1.0", 404)],
)
async def test_a_cursor_that_is_none(served: Served, cursor: str, status: int) -> None:
    chunk_id, _ = frames(await post(served, submit(user(1, "[[tokens=5]]"))))[0]
    headers = {"Last-Event-ID": cursor.format(chunk_id.split(".")[0])}
    answer = await served.client.get("/api/chat/c/stream", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")


@pytest.mark.parametrize("resets", [True, False])
async def test_a_cursor_in_void_text(start: Start, resets: bool) -> None:
    """Who can take text back is sent a reset; who cannot is sent to the start (410)."""
    async with start(lease_seconds=0.5) as served:
        body = submit(user(1, "[[tokens=300 rate=100 vary]]"))
        turn = await begin(served, body)
        live = served.app.state.edge.engine.running._lives[turn]
        await eventually_async(lambda: live.acknowledged > 12)
        live.interrupt("lost host")

        async def restarted() -> bool:
            return await served.app.state.edge.engine.store.turns.get(live.turn.ref) is not None and bool(
                (await served.app.state.edge.engine.turn(live.turn.ref)).void
            )

        await eventually_async(restarted)
        headers = {"Last-Event-ID": f"{turn}.8.0", **({"X-Accept-Chunks": "reset-step"} if resets else {})}
        answer = await served.client.get("/api/chat/c/stream", headers=headers)
        if resets:
            chunks = frames(answer.text)
            assert json.loads(chunks[0][1]) == {"type": "reset-step"}
            assert AiSdk().read(answer.text) == (expected_text(300, 1), "completed")
        else:
            assert answer.status_code == 410
            assert answer.text == "The answer was begun again; read it from its start."
        replay = await served.client.get("/api/chat/c/stream")
        assert replay.status_code == (204 if resets else 200)
        if not resets:
            assert AiSdk().read(replay.text) == (expected_text(300, 1), "completed")


# Stop, history, the module


async def test_stop_ends_the_stream_by_an_abort_and_keeps_the_text(served: Served) -> None:
    sending = asyncio.create_task(post(served, submit(user(1, SLOW))))
    turn = await begin(served, submit(user(1, SLOW)))

    async def some() -> bool:
        return len((await served.client.get(f"/v1/sessions/c/turns/{turn}")).json()["text"]) > 30

    await eventually_async(some)
    stopped = await served.client.post("/api/chat/c/stop")
    assert (stopped.status_code, stopped.text) == (200, "The answer was stopped.")
    text, end = AiSdk().read(await sending)
    assert end == "stopped"
    assert await history(served) == [("user", SLOW), ("assistant", text)]
    idle = await served.client.post("/api/chat/c/stop")
    assert (idle.status_code, idle.text) == (200, "Nothing is being answered.")


@pytest.mark.parametrize(("method", "path"), [("POST", "stop"), ("GET", "messages")])
async def test_an_unknown_chat_is_404(served: Served, method: str, path: str) -> None:
    answer = await served.client.request(method, f"/api/chat/unknown/{path}")
    assert (answer.status_code, answer.text) == (404, "There is no such session.")
