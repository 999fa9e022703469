"""What the package does where service, line or token fail: `resumableFetch` below a chat, and `followTurn`.

The first two tests break streams of the real service. The others have one that fails as it is told to
(failing.mjs), on a clock of its own: a wait of 30 s takes none.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.node import Node
from tests.support.service import Served

ASKED: Final = "[[say=Zwei 👩‍💻 étude.]]"
TEXT: Final = "Zwei 👩‍💻 étude."
SENT: Final = "".join(f"{word}c" for word in ("Zwei", " 👩‍💻", " étude", "."))
WELL: Final = {"isAbort": False, "isDisconnect": False, "isError": False}
DROPPED: Final = {**WELL, "isDisconnect": True, "isError": True}
REFUSED: Final = {**WELL, "isError": True}
STOPPED: Final = {**WELL, "isAbort": True}
WHOLE: Final = {"text": SENT, "status": "ready", "error": None, "finishes": [WELL]}


@pytest.mark.timeout(180)
async def test_a_send_that_breaks_at_any_byte_is_the_whole_answer(served: Served, node: Node) -> None:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": ASKED}]}
    seen = await node.play("bytes", "chat", url=served.url, body={"id": "c", "messages": [message]})
    assert "👩" in seen["whole"]
    assert "[DONE]" in seen["whole"]
    assert (seen["length"] > 400, seen["differing"]) == (True, [])


@pytest.mark.timeout(180)
async def test_a_turn_that_breaks_at_any_byte_is_all_of_its_events(served: Served, node: Node) -> None:
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": ASKED})
    assert "👩" in answer.text
    seen = await node.play("bytes", "turn", url=f"{served.url}{answer.headers['location']}")
    assert "👩" in seen["whole"]
    assert (seen["length"] > 300, seen["differing"]) == (True, [])


async def played(node: Node, cases: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """Of each case what the chat and what `followTurn` came to."""
    told = await node.play("failing", "all", cases=cases)
    for one in told.values():
        [one["send"]["chat"]] = one["send"]["chats"]
    return {name: (one["send"], one["follow"]) for name, one in told.items()}


async def once(node: Node, **parameters: Any) -> tuple[Any, Any]:
    return (await played(node, {"": parameters}))[""]


LATER: Final = {"headers": {"retry-after": "7"}}
PASSING: Final[dict[str, list[Any]]] = {
    "nothing came yet": ["offline"],
    "the head came and nothing more": [0],
    "between two events": [3],
    "after the last event, before the end": [10],
    "again and again": [2, 1, 1, "offline", 1, 0, 1],
    "a proxy without its server": [3, {"status": 502}, {"status": 504}],
    "offline for 30 s": [3, {"until": 30_000}],
    "a replica that is leaving": [3, {"status": 503, **LATER}],
    "too many who come back at once": [3, {"status": 429, **LATER}],
}


async def test_what_passes_is_not_noticed(node: Node) -> None:
    told = await played(node, {name: {"plan": plan} for name, plan in PASSING.items()})
    assert {name: chat["chat"] for name, (chat, _) in told.items()} == dict.fromkeys(PASSING, WHOLE)
    assert {name: (turn["text"], turn["error"]) for name, (_, turn) in told.items()} == dict.fromkeys(
        PASSING, (TEXT, None)
    )
    assert [30_000 <= one["now"] < 40_000 for one in told["offline for 30 s"]] == [True, True]
    for name in ("a replica that is leaving", "too many who come back at once"):
        for one in told[name]:
            assert one["asked"][2]["at"] - one["asked"][1]["at"] == 7_000


async def test_an_answer_of_which_nothing_came_is_asked_for_under_its_key(node: Node) -> None:
    """The stream's address has the newest answer, which may be another one, and 204 for one that was sent."""
    chat, _ = await once(node, plan=[0])
    first, second = chat["asked"]
    assert (first["method"], second["method"]) == ("POST", "POST")
    assert first["key"]
    assert first["key"] == second["key"]


async def test_a_machine_that_slept_comes_back(node: Node) -> None:
    """A laptop is closed for an hour; its network is back a moment after it."""
    hour = 3_600_000
    plans: dict[str, list[Any]] = {
        "before the line was seen to be dead": [{"breaks": 3, "after": hour}, "offline"],
        "after that": [3, {"offline": True, "after": hour}, "offline"],
    }
    for chat, turn in (await played(node, {name: {"plan": plan} for name, plan in plans.items()})).values():
        assert chat["chat"] == WHOLE
        assert (turn["text"], turn["error"]) == (TEXT, None)


async def test_patience_has_an_end(node: Node) -> None:
    chat, turn = await once(node, plan=[3, {"until": 600_000}])
    assert (chat["chat"]["status"], chat["chat"]["finishes"]) == ("error", [DROPPED])
    assert SENT.startswith(chat["chat"]["text"])
    assert TEXT.startswith(turn["text"])
    assert turn["error"]["name"] == "TypeError"
    for one in (chat, turn):
        assert 60_000 <= one["now"] < 66_000


async def test_a_send_that_is_not_taken_is_told_of_soon(node: Node) -> None:
    busy = {"status": 503, "body": "Try again in an hour.", "headers": {"retry-after": "3600"}}
    told = await played(
        node,
        {"offline": {"plan": [{"until": 600_000}]}, "busy": {"plan": [busy]}, "then": {"plan": [5, busy]}},
    )
    chat, _ = told["offline"]
    assert (chat["chat"]["status"], chat["chat"]["finishes"]) == ("error", [DROPPED])
    assert 10_000 <= chat["now"] < 16_000
    for name, requests in (("busy", 1), ("then", 2)):
        chat, _ = told[name]
        assert (chat["chat"]["error"], chat["now"]) == ("Try again in an hour.", 0)
        assert len(chat["asked"]) == requests


async def test_a_text_that_is_void_or_lost_ends_like_a_drop(node: Node) -> None:
    """resumeStream() brings the new one, and apps call it where `isDisconnect` is true."""
    gone = {"body": "It was begun again."}
    told = await played(node, {str(code): {"plan": [5, {"status": code, **gone}]} for code in (409, 410)})
    for chat, _ in told.values():
        assert (chat["chat"]["status"], chat["chat"]["finishes"]) == ("error", [DROPPED])
        assert chat["chat"]["error"] == "network error: It was begun again."


async def test_another_refusal_is_shown_as_it_is(node: Node) -> None:
    """As no drop: who resumed then would be refused again and again."""
    no = {"body": '{"code": "no", "detail": "No."}'}
    codes = (401, 403, 404, 500)
    told = await played(node, {str(code): {"plan": [3, {"status": code, **no}]} for code in codes})
    for code, (chat, turn) in told.items():
        assert (chat["chat"]["error"], chat["chat"]["finishes"]) == (no["body"], [REFUSED])
        assert turn["error"] == {"name": "TurnError", "message": "No.", "status": int(code), "code": "no"}
    chat, _ = await once(node, plan=[{"status": 409, "body": "An answer is running."}])
    assert (chat["chat"]["error"], chat["chat"]["finishes"]) == ("An answer is running.", [REFUSED])


async def test_a_token_that_has_expired_is_renewed(node: Node) -> None:
    plans: dict[str, list[Any]] = {"before": [{"status": 401}], "in mid-answer": [3, {"status": 401}]}
    told = await played(
        node, {name: {"plan": plan, "tokens": ["old", "new"]} for name, plan in plans.items()}
    )
    for chat, turn in told.values():
        assert chat["chat"] == WHOLE
        assert (turn["text"], turn["error"]) == (TEXT, None)
        for one in (chat, turn):
            assert [asked["token"] for asked in one["asked"]][-2:] == ["old", "new"]
    refusals = [{"status": 401, "body": "Sign in."}] * 2
    chat, turn = await once(node, plan=[3, *refusals], tokens=["old", "new"])
    assert (chat["chat"]["error"], len(chat["asked"])) == ("Sign in.", 3)
    assert (turn["error"]["status"], len(turn["asked"])) == (401, 3)


async def test_two_answers_at_once_do_not_mix(node: Node) -> None:
    told = await node.play("failing", "send", ids=["a", "b"], plan=[4, 5, 1, "offline", 2, 1])
    texts = [chat["text"] for chat in told["chats"]]
    assert texts == [SENT.replace("c", name) for name in "ab"]
    assert [chat["error"] for chat in told["chats"]] == [None, None]


async def test_a_stop_while_it_reconnects_ends_it(node: Node) -> None:
    plans: dict[str, list[Any]] = {"hanging": [3, "hang"], "offline": [3, *["offline"] * 50]}
    told = await played(node, {name: {"plan": plan, "stops": 2} for name, plan in plans.items()})
    for chat, turn in told.values():
        assert (chat["chat"]["status"], chat["chat"]["finishes"]) == ("ready", [STOPPED])
        assert SENT.startswith(chat["chat"]["text"])
        assert chat["more"] == 0
        assert (turn["error"]["name"], len(turn["asked"])) == ("AbortError", 2)
