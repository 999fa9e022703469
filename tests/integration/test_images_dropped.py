"""Images that nothing can show any more are freed, once the edit that dropped them is final; others stay."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import redis

from service.engine import forking as engine_forking
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.integration.test_images import PICTURE, REF, SEES, by_native, messages
from tests.support.branches import fill, fork
from tests.support.pictures import data_url, png
from tests.support.service import Served
from tests.support.waiting import eventually_async

TURNS = "/v1/sessions/s/turns"
LARGE = png(7, 7, extra=60_000)
LARGE_REF = hashlib.sha256(LARGE).hexdigest()


async def there(served: Served, ref: str, session: str = "s") -> bool:
    return (await served.client.get(f"/v1/sessions/{session}/images/{ref}")).status_code == 200


async def gone(served: Served, ref: str) -> None:
    async def is_gone() -> bool:
        return not await there(served, ref)

    await eventually_async(is_gone)


async def say(served: Served, **body: Any) -> None:
    answer = await served.client.post(TURNS, json={"model": SEES, **body})
    assert answer.status_code == 200, answer.text


async def edit(served: Served, message_id: str, text: str) -> None:
    await say(served, edit={"message_id": message_id, "content": text})


async def used(served: Served) -> int:
    return int((await served.client.get("/v1/usage")).json()["storage"]["bytes"]["used"])


async def asked(served: Served, picture: bytes = LARGE) -> str:
    """The id of a question with a picture."""
    answer = await by_native(served, "s", "[[say=red]] what is it", data_url(picture))
    assert answer.status_code == 200, answer.text
    return str((await messages(served))[-2]["id"])


async def test_an_image_stays_as_long_as_a_version_shows_it_and_goes_with_that(
    start: Start, store: redis.Redis
) -> None:
    async with start(max_versions=2, max_stored_bytes_per_principal=1_000_000) as served:
        question = await asked(served)
        full = await used(served)
        for number in (1, 2):
            await edit(served, question, f"[[say=ok]] {number}")
            assert await there(served, LARGE_REF)
        assert await used(served) > full
        versions = (await served.client.get("/v1/sessions/s/messages", params={"versions": 1})).json()["data"]
        shown = versions[0]["versions"][0]["messages"][0]["parts"][1]["ref"]
        assert shown == LARGE_REF
        await edit(served, question, "[[say=ok]] 3")
        await gone(served, LARGE_REF)
        session: Any = store.hgetall("chat:{none.anonymous/s}:session")
        assert session["images"] == ""
        assert int(session["bytes"]) < 20_000
        assert 40_000 < full - await used(served) < 61_000
        before = await used(served)
        await say(served, content="[[say=ok]] more")  # whose seal counts the session anew
        assert 0 < await used(served) - before < 10_000


async def test_a_version_that_is_put_back_may_take_the_last_one_of_an_image_away(start: Start) -> None:
    async with start(max_versions=2) as served:
        question = await asked(served)
        for number in (1, 2):
            await edit(served, question, f"[[say=ok]] {number}")
        assert await there(served, LARGE_REF)
    async with start(max_versions=1) as served:  # fewer are kept than there were
        path = "/v1/sessions/s"
        held = (await served.client.get(f"{path}/messages", params={"versions": 1})).json()["data"][0]
        [plain] = [one["id"] for one in held["versions"] if "parts" not in one["messages"][0]]
        assert (await served.client.patch(path, json={"version": plain})).status_code == 200
        await gone(served, LARGE_REF)


async def test_what_another_message_shows_stays(start: Start) -> None:
    async with start(max_versions=0) as served:
        question = await asked(served)
        await asked(served, PICTURE)
        await by_native(served, "s", "[[say=ok]] again", data_url(PICTURE))
        third = (await messages(served))[4]["id"]
        await edit(served, third, "[[say=ok]] without")
        await served.app.state.edge.engine.pictures.sweep("none.anonymous", "s")
        assert await there(served, REF)
        assert await there(served, LARGE_REF)
        await edit(served, question, "[[say=ok]] without")
        await gone(served, LARGE_REF)
        await gone(served, REF)


async def test_a_page_that_asks_anew_without_the_image_drops_it(served: Served) -> None:
    question = await asked(served)
    page = {"id": question, "role": "user", "parts": [{"type": "text", "text": "[[say=ok]] what"}]}
    body = {"id": "s", "messages": [page], "trigger": "regenerate-message"}
    answer = await served.client.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert "parts" not in (await messages(served))[0]
    await gone(served, LARGE_REF)


async def test_of_a_long_session_too(start: Start, store: redis.Redis) -> None:
    async with start(max_versions=0) as served:
        fill(store, 1_200)
        question = await asked(served)
        await edit(served, question, "[[say=ok]] without")
        await gone(served, LARGE_REF)


async def test_an_item_that_is_taken_out_takes_its_image_along(served: Served) -> None:
    content = [
        {"type": "input_text", "text": "what"},
        {"type": "input_image", "image_url": data_url(LARGE)},
    ]
    made = await served.client.post(
        "/v1/conversations", json={"items": [{"role": "user", "content": content}]}
    )
    path = f"/v1/conversations/{made.json()['id']}/items"
    [item] = (await served.client.get(path)).json()["data"]
    assert await there(served, LARGE_REF, made.json()["id"])
    assert (await served.client.delete(f"{path}/{item['id']}")).status_code == 200
    assert not await there(served, LARGE_REF, made.json()["id"])


async def test_a_fork_has_the_images_that_its_messages_show(start: Start) -> None:
    async with start(max_stored_bytes_per_principal=150_000) as served:
        await asked(served, PICTURE)
        first = (await messages(served))[-1]["id"]
        await asked(served)
        last = (await messages(served))[-1]["id"]
        before = await used(served)
        copy = (await fork(served, first)).json()["id"]
        assert (await there(served, REF, copy), await there(served, LARGE_REF, copy)) == (True, False)
        assert await used(served) - before < 5_000
        whole = (await fork(served, last)).json()["id"]
        assert await there(served, LARGE_REF, whole)
        full, kept = await fork(served, last), await used(served)
        assert (full.status_code, full.json()["code"]) == (429, "storage_full")
        assert await used(served) == kept
        assert len((await served.client.get("/v1/sessions")).json()["data"]) == 3


async def test_a_fork_is_charged_for_its_images_once_and_one_that_came_to_nothing_for_nothing(
    start: Start, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(max_stored_bytes_per_principal=500_000) as served:
        await asked(served, PICTURE)
        last = (await messages(served))[-1]["id"]
        before = await used(served)
        forks = served.app.state.edge.engine.store.forks
        with monkeypatch.context() as changing:  # an edit beside it, each time
            changing.setattr(forks, "write", answering("LOST"))
            assert (await fork(served, last)).status_code == 409
        assert await used(served) == before
        key = {"Idempotency-Key": "k"}
        copy = (await fork(served, last, **key)).json()["id"]
        kept = await used(served)
        with monkeypatch.context() as racing:  # as where the first has only just begun
            known = engine_forking._repeats
            answers = iter([False])

            async def repeats(*args: Any) -> bool:
                return next(answers, True) and await known(*args)

            racing.setattr(engine_forking, "_repeats", repeats)
            assert (await fork(served, last, **key)).json()["id"] == copy
        assert await used(served) == kept


def answering(outcome: str) -> Any:
    async def write(*args: Any) -> str:
        return outcome

    return write


async def test_an_image_that_a_turn_names_meanwhile_stays(served: Served) -> None:
    """Nothing is freed by what was seen of another state of the session, nor what somebody holds."""
    await say(served, content="[[say=ok]] first")
    images = served.app.state.edge.engine.store.images
    turn, nobody = (TurnRef("none.anonymous", "s", name) for name in ("t_1", "-"))
    assert await images.put(turn, REF, PICTURE)
    refs, state = await images.unnamed("none.anonymous", "s")
    assert refs == {REF}
    assert await images.release(nobody, REF, begun=False, unnamed=state) == 0  # it is about to be named
    assert await images.release(turn, REF, begun=True) == 0
    await say(served, content="[[say=ok]] second")
    assert await images.release(nobody, REF, begun=False, unnamed=state) == 0
    refs, state = await images.unnamed("none.anonymous", "s")
    assert await images.release(nobody, REF, begun=False, unnamed=state) > len(PICTURE)
    assert not await there(served, REF)


async def test_an_image_of_a_whole_context_stays_as_long_as_its_turn_runs(served: Served) -> None:
    """Of such a context the session keeps the newest message alone."""
    await say(served, content="[[say=ok]] first")
    images = served.app.state.edge.engine.store.images
    pictured = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(PICTURE)}}]}
    for words, named in (("[[tokens=2000 rate=50]]", True), ("[[say=ok]]", False)):
        context = [pictured, {"role": "user", "content": words}]
        asking = {"session_id": "s", "model": SEES, "stream": True, "messages": context}
        async with served.client.stream("POST", "/v1/chat/completions", json=asking) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_lines():
                if named:
                    break
            refs, _ = await images.unnamed("none.anonymous", "s")
            assert refs == (set() if named else {REF})
        await served.client.post("/api/chat/s/stop")


@pytest.mark.parametrize("left", ["while it ran", "once it was sealed"])
async def test_it_goes_where_the_worker_that_dropped_it_does_not_come_to_that(
    start: Start, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    async with start(max_versions=0) as first, start(max_versions=0) as second:
        question = await asked(first)
        dying = first.app.state.edge.engine

        async def nothing(principal: str, session_id: str) -> None:
            pass

        monkeypatch.setattr(dying.pictures, "sweep", nothing)
        wish = "[[tokens=20 rate=20]]" if left == "while it ran" else "[[say=ok]]"
        body = {"model": SEES, "edit": {"message_id": question, "content": f"{wish} without"}}
        begun = await first.client.post(TURNS, json=body, headers={"Prefer": "respond-async"})
        path = begun.headers["location"]
        if left == "while it ran":
            dying.running.closed = True
            await dying.release()

        async def ended() -> bool:
            return bool((await second.client.get(path)).json()["state"] == "completed")

        await eventually_async(ended, within=10)
        if left != "while it ran":
            assert await there(second, LARGE_REF)
            turn = TurnRef("none.anonymous", "s", begun.json()["id"])
            await second.app.state.edge.engine.running.claim_due(turn)  # as a sweep does
        await gone(second, LARGE_REF)
