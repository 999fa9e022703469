"""Versions: what edits and regenerates have cut off is kept, shown, and can be put back."""

from __future__ import annotations

from typing import Any

import orjson
import redis

from tests.conftest import Start
from tests.integration.test_turns import SLOW, begin
from tests.support.branches import choose, fill, lives, messages, said, say, versions
from tests.support.identity import bearer, make_key
from tests.support.service import Served


async def test_a_regenerate_keeps_the_earlier_answer_and_either_can_be_chosen(served: Served) -> None:
    await say(served, "[[tokens=5 seed=1]]")
    first = (await messages(served))[1]
    await say(served, "", regenerate=True)
    second = (await messages(served))[1]
    assert first["id"] != second["id"]
    [answer] = [one for one in await messages(served, versions=1) if one["versions"]]
    assert answer["id"] == second["id"]
    [version] = answer["versions"]
    assert version["messages"] == [first]
    assert (await choose(served, version["id"])).status_code == 200
    assert await messages(served) == [(await messages(served))[0], first]
    [answer] = [one for one in await messages(served, versions=1) if one["versions"]]
    assert answer["versions"][0]["messages"] == [second]
    assert (await choose(served, answer["versions"][0]["id"])).status_code == 200
    assert (await messages(served))[1] == second


async def test_versions_may_come_without_their_messages(served: Served) -> None:
    await say(served, "[[say=first]]")
    [_, first] = await messages(served)
    await say(served, "", regenerate=True)
    [_, whole] = await messages(served, versions=1)
    [_, brief] = await messages(served, versions=1, brief=1)
    [version] = whole["versions"]
    assert (version["role"], version["created"]) == ("assistant", first["created"])
    assert version.pop("messages") == [first]
    assert brief["versions"] == [version]
    assert await messages(served, brief=1) == await messages(served)


async def test_an_edit_keeps_the_earlier_question_with_all_that_followed(served: Served) -> None:
    for word in ("one", "two", "three"):
        await say(served, f"[[say={word}]]")
    before = await messages(served)
    await say(served, "", edit={"message_id": before[2]["id"], "content": "[[say=TWO]]"})
    after = await said(served)
    assert after == ["[[say=one]]", "one", "[[say=TWO]]", "TWO"]
    found = await versions(served)
    assert list(found) == ["[[say=TWO]]"]
    [(version, old)] = found["[[say=TWO]]"]
    assert old == ["[[say=two]]", "two", "[[say=three]]", "three"]
    assert (await choose(served, version)).status_code == 200
    assert await messages(served) == before
    await say(served, "[[say=four]]")
    assert (await said(served))[-2:] == ["[[say=four]]", "four"]
    [(version, old)] = (await versions(served))["[[say=two]]"]
    assert old == ["[[say=TWO]]", "TWO"]
    assert (await choose(served, version)).status_code == 200
    assert await said(served) == after


async def test_a_version_of_an_answer_is_shown_below_its_own_question_only(served: Served) -> None:
    await say(served, "[[say=one]]")
    question = (await messages(served))[0]["id"]
    await say(served, "", regenerate=True)
    [(of_answer, _)] = (await versions(served))["one"]
    await say(served, "", edit={"message_id": question, "content": "[[say=two]]"})
    assert list(await versions(served)) == ["[[say=two]]"]
    answer = await choose(served, of_answer)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    [(of_question, _)] = (await versions(served))["[[say=two]]"]
    assert (await choose(served, of_question)).status_code == 200
    assert of_answer in [version for version, _ in (await versions(served))["one"]]


async def test_the_model_is_asked_with_the_version_that_was_chosen(served: Served, double: Any) -> None:
    await say(served, "[[say=left]]")
    question = (await messages(served))[0]["id"]
    await say(served, "", edit={"message_id": question, "content": "[[say=right]]"})
    [(version, _)] = (await versions(served))["[[say=right]]"]
    await choose(served, version)
    await say(served, "[[say=end]]")
    [call] = double.calls.find(contains="end")
    asked = orjson.loads(call.body)["messages"]
    assert [one["content"] for one in asked[1:]] == ["[[say=left]]", "left", "[[say=end]]"]


async def test_of_many_versions_the_oldest_go(start: Start, store: redis.Redis) -> None:
    async with start(max_versions=3) as served:
        await say(served, "[[say=0]]")
        question = (await messages(served))[0]["id"]
        for i in range(1, 7):
            await say(served, "", edit={"message_id": question, "content": f"[[say={i}]]"})
        kept = [old for _, old in (await versions(served))["[[say=6]]"]]
        assert kept == [["[[say=3]]", "3"], ["[[say=4]]", "4"], ["[[say=5]]", "5"]]
        assert store.hlen("chat:{none.anonymous/s}:messages") == 5


async def test_none_are_kept_where_the_setting_says_so(start: Start, store: redis.Redis) -> None:
    async with start(max_versions=0) as served:
        await say(served, "[[say=0]]")
        await say(served, "", regenerate=True)
        assert await versions(served) == {}
        assert store.hlen("chat:{none.anonymous/s}:messages") == 2


async def test_versions_live_as_long_as_their_session_count_as_its_own_and_go_with_it(
    start: Start, store: redis.Redis
) -> None:
    async with start(auth="keys") as served:
        mine = bearer(await make_key(served, owner="me"))

        async def used() -> int:
            answer = await served.client.get("/v1/usage", headers=mine)
            return int(answer.json()["storage"]["bytes"]["used"])

        await say(served, "[[say=a]] " + "x" * 50_000, headers=mine)
        first = await used()
        question = (await messages(served, headers=mine))[0]["id"]
        await say(
            served,
            "",
            headers=mine,
            edit={"message_id": question, "content": "[[say=b]] " + "y" * 50_000},
        )
        assert 45_000 < await used() - first < 65_000
        assert len(lives(store, "s")) == 1
        assert "versions" in (await served.client.get("/v1/sessions/s/export", headers=mine)).json()
        await served.client.delete("/v1/sessions/s", headers=mine)
        assert list(store.scan_iter("chat:{owner.me/*")) == []
        assert await used() == 0


async def test_nothing_is_chosen_while_the_session_answers_or_where_there_is_no_such_version(
    served: Served,
) -> None:
    await say(served, "[[say=a]]")
    await say(served, "", regenerate=True)
    [(version, _)] = (await versions(served))["a"]
    for wrong in ("v_99", "nonsense", "\x01"):
        answer = await choose(served, wrong)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await choose(served, "v_1", "nowhere")).json()["code"] == "session_not_found"
    running = await begin(served, "s", {"content": SLOW})
    answer = await choose(served, version)
    assert (answer.status_code, answer.json()["code"]) == (409, "turn_in_progress")
    await served.client.post(running.headers["location"] + "/stop")
    assert (await choose(served, version)).status_code == 200
    answer = await served.client.get("/v1/sessions/s/messages", params={"versions": "yes"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_what_would_be_lost_by_a_choice_is_not_replaced(served: Served, store: redis.Redis) -> None:
    await say(served, "[[say=a]]")
    question = (await messages(served))[0]["id"]
    await say(served, "", edit={"message_id": question, "content": "[[say=b]]"})
    [(version, _)] = (await versions(served))["[[say=b]]"]
    await say(served, "[[say=c]] " + "x" * 300_000)
    before = await messages(served)
    answer = await choose(served, version)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert await messages(served) == before


async def test_of_a_long_history_a_version_keeps_the_beginning(served: Served, store: redis.Redis) -> None:
    fill(store, 1_000)
    await say(served, "", edit={"message_id": "m2", "content": "[[say=short]]"})
    [(_, old)] = (await versions(served))["[[say=short]]"]
    assert len(old) == 200
    assert await said(served) == ["0 " + "x" * 20, "1 " + "x" * 20, "[[say=short]]", "short"]


async def test_a_choice_leaves_nothing_in_the_session_but_what_it_changes(
    served: Served, store: redis.Redis
) -> None:
    await say(served, "[[tokens=2 seed=1]]")
    await say(served, "", regenerate=True)
    [answer] = [one for one in await messages(served, versions=1) if one["versions"]]
    kept = store.hkeys("chat:{none.anonymous/s}:session")
    body = {"version": answer["versions"][0]["id"], "title": "T"}
    assert (await served.client.patch("/v1/sessions/s", json=body)).json()["title"] == "T"
    assert sorted(store.hkeys("chat:{none.anonymous/s}:session")) == sorted({*kept, "title"})
