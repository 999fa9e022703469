"""Real clients whose worker is killed with -9 in mid-answer."""

from __future__ import annotations

import asyncio
import os
import signal

import httpx
import openai
import pytest

from tests.clients.chats import REBUILDING_AFTER_DROPS, VERSIONS, texts
from tests.docs.test_clients_page import CLIENT, MODULE, example
from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.node import Node
from tests.support.redis import RedisServer
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

ASKED = "[[tokens=200 rate=30 vary]]"


async def kill_the_workers_in_mid_answer(redis_process: RedisServer, turns: int = 1) -> None:
    """Every worker that runs a turn, once all of the turns have a dozen events."""
    with redis_process.client() as store:

        def running() -> list[str]:
            logs = list(store.scan_iter("*:log:*"))
            if len(logs) < turns or any(store.xlen(log) < 12 for log in logs):
                return []
            return [str(store.hget(turn, "owner")) for turn in store.scan_iter("*:turn:*")]

        owners = await eventually_async(running, within=20)
    for pid in {int(owner.rpartition(":")[2]) for owner in owners}:
        os.kill(pid, signal.SIGKILL)


async def test_use_chat_with_the_module_sees_the_text_replaced_and_nothing_else(
    launch: Launch, node: Node, redis_process: RedisServer
) -> None:
    replica = launch()
    playing = asyncio.create_task(node.play("chat", "hook", url=replica.url, text=ASKED, resumable=True))
    await kill_the_workers_in_mid_answer(redis_process)
    page = await playing
    assert (page["status"], page["error"]) == ("ready", None)
    assert page["text"] == [ASKED, expected_text(200, 1)]
    assert "error" not in page["statuses"]


async def test_the_documented_use_chat_shows_the_new_text_and_no_error(
    launch: Launch, node: Node, redis_process: RedisServer
) -> None:
    replica = launch()
    code = example("useChat({").text.replace(MODULE, str(CLIENT / "resumable-fetch.js"))
    code = code.replace("http://localhost:8000", replica.url)
    playing = asyncio.create_task(node.play("example", "component", code=code, text=ASKED))
    await kill_the_workers_in_mid_answer(redis_process)
    page = await playing
    assert (page["texts"], page["error"]) == ([ASKED, expected_text(200, 1)], None)
    assert page["buttons"] == ["Send", "Stop", "Send"]


async def test_a_page_behind_the_route_handler_of_next_sees_the_text_replaced_and_nothing_else(
    launch: Launch, node: Node, redis_process: RedisServer
) -> None:
    replica = launch()
    playing = asyncio.create_task(node.play("next_route", "send", url=replica.url, text=ASKED))
    await kill_the_workers_in_mid_answer(redis_process)
    page = await playing
    assert (page["texts"], page["error"]) == ([ASKED, expected_text(200, 1)], None)
    assert page["kept"] == page["texts"]
    assert "error" not in page["statuses"]


async def test_the_package_follows_a_turn_to_its_end(
    launch: Launch, node: Node, redis_process: RedisServer
) -> None:
    replica = launch()
    url = f"{replica.url}{await _begin(replica.url)}"
    playing = asyncio.create_task(node.play("follow", "follow", url=url))
    await kill_the_workers_in_mid_answer(redis_process)
    seen = await playing
    assert seen["error"] is None
    numbers, names, pieces = zip(*seen["events"], strict=True)
    assert list(numbers) == list(range(1, len(numbers) + 1))
    assert names.count("turn.restarted") == 1
    text = "".join(piece or "" for piece in pieces[names.index("turn.restarted") :])
    assert text == expected_text(200, 1)


@pytest.mark.parametrize(("how", "versions"), [("resume", REBUILDING_AFTER_DROPS), ("remount", VERSIONS)])
async def test_without_the_module_a_replay_shows_the_whole_answer(
    launch: Launch, node: Node, redis_process: RedisServer, how: str, versions: list[str]
) -> None:
    replica = launch()
    playing = asyncio.create_task(
        node.play("chat", "recover", url=replica.url, versions=versions, text=f"{ASKED} {{version}}", how=how)
    )
    await kill_the_workers_in_mid_answer(redis_process, len(versions))
    for chat in (await playing).values():
        assert chat["dropped"]["status"] == "error"
        assert expected_text(200, 0).startswith(texts(chat["dropped"])[1])
        assert texts(chat["after"])[1] == expected_text(200, 1)


async def test_an_event_source_reads_on_at_another_worker(
    launch: Launch, node: Node, redis_process: RedisServer
) -> None:
    replica = launch()
    async with asyncio.timeout(60):
        path = await _begin(replica.url)
        playing = asyncio.create_task(node.play("eventsource", "follow", url=f"{replica.url}{path}"))
        await kill_the_workers_in_mid_answer(redis_process)
        seen = await playing
    assert seen["text"] == expected_text(200, 1)
    assert [number for number, _ in seen["events"]] == list(range(1, len(seen["events"]) + 1))
    assert [name for _, name in seen["events"]].count("turn.restarted") == 1
    assert seen["code"] == 204


async def _begin(url: str) -> str:
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.post(
            f"{url}/v1/sessions/s/turns", json={"content": ASKED}, headers={"Prefer": "respond-async"}
        )
    location: str = answer.headers["location"]
    return f"{location}/events"


async def test_openai_s_sdk_raises_and_repeats_with_the_key_have_the_answer(
    launch: Launch, redis_process: RedisServer
) -> None:
    replica = launch()
    client = openai.AsyncOpenAI(base_url=f"{replica.url}/v1", api_key="none", max_retries=5)
    seen: list[str] = []

    async def ask() -> None:
        stream = await client.chat.completions.create(
            model="openai/gpt-oss-120b",
            messages=[{"role": "user", "content": ASKED}],
            stream=True,
            extra_headers={"Idempotency-Key": "k"},
        )
        async for chunk in stream:
            seen.extend(choice.delta.content or "" for choice in chunk.choices)

    async def answered() -> bool:
        """A repeat that is faster than the takeover sees the old text once more, and is told so."""
        seen.clear()
        try:
            await ask()
        except openai.APIError as error:
            return "send the request again" not in error.message
        return True

    async with client:
        asking = asyncio.create_task(ask())
        await kill_the_workers_in_mid_answer(redis_process)
        with pytest.raises(openai.APIConnectionError):
            await asking
        assert expected_text(200, 0).startswith("".join(seen))
        await eventually_async(answered, within=30)
        assert "".join(seen) == expected_text(200, 1)
