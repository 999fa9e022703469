"""The real AI SDK on a line that is cut and on workers that are lost, in five versions at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.chats import REBUILDING_AFTER_DROPS, VERSIONS, running_text, texts
from tests.conftest import Start
from tests.double import Double, expected_text
from tests.support.line import Line
from tests.support.node import Node
from tests.support.service import Served
from tests.support.waiting import eventually_async


def port(served: Served) -> int:
    return int(served.url.rpartition(":")[2])


async def all_show(served: Served, characters: int, versions: list[str] = VERSIONS) -> None:
    """Every version's answer has more than so many characters."""
    for version in versions:

        async def beyond(version: str = version) -> bool:
            return len(await running_text(served, version)) > characters

        await eventually_async(beyond, within=15)


async def lose_the_workers(served: Served) -> None:
    """The runners end without a trace, as when their host is lost; the leases lapse."""
    for live in list(served.app.state.edge.engine.running._lives.values()):
        live.interrupt("lost host")


async def test_the_module_hides_drops_without_a_change_of_status(
    served: Served, node: Node, double: Double
) -> None:
    asked = ["[[tokens=240 rate=40]]"]
    with Line(port(served)) as line:
        playing = asyncio.create_task(
            node.play("chat", "talk", url=line.url, versions=VERSIONS, resumable=True, texts=asked)
        )
        for characters in (30, 200, 400, 600):
            await all_show(served, characters)
            line.cut()
            line.mend()
        chats = await playing
    for chat in chats.values():
        assert texts(chat)[1] == expected_text(240)
        assert chat["statuses"] == ["submitted", "streaming", "ready"]
        assert chat["finishes"] == [{"isAbort": False, "isDisconnect": False, "isError": False}]
    assert len(list(double.calls)) == len(VERSIONS)


async def test_the_module_leaves_a_line_that_has_fallen_silent(served: Served, node: Node) -> None:
    asked = "[[tokens=60 rate=100]]"
    chat = await node.play("silent", "send", url=served.url, text=asked, silence=1_500)
    assert (chat["texts"], chat["error"]) == ([asked, expected_text(60)], None)
    assert chat["lines"] > 1


async def test_the_module_waits_for_a_line_that_is_dead_for_a_while(served: Served, node: Node) -> None:
    with Line(port(served)) as line:
        playing = asyncio.create_task(
            node.play(
                "chat",
                "talk",
                url=line.url,
                versions=["react"],
                resumable=True,
                texts=["[[tokens=40 rate=20]]"],
            )
        )
        await all_show(served, 30, ["react"])
        line.cut()

        async def over() -> bool:
            return (await served.client.get("/v1/sessions/react")).json()["active_turn"] is None

        await eventually_async(over)
        line.mend()
        chats = await playing
    assert texts(chats["react"])[1] == expected_text(40)
    assert chats["react"]["statuses"] == ["submitted", "streaming", "ready"]


WAYS = pytest.mark.parametrize(
    ("how", "versions"), [("resume", REBUILDING_AFTER_DROPS), ("remount", VERSIONS)]
)


@WAYS
async def test_after_a_drop_without_the_module_a_replay_brings_everything(
    served: Served, node: Node, how: str, versions: list[str]
) -> None:
    asked = "[[tokens=150 rate=25]]"
    with Line(port(served)) as line:
        playing = asyncio.create_task(
            node.play("chat", "recover", url=line.url, versions=versions, text=asked, how=how)
        )
        await all_show(served, 60, versions)
        line.cut()
        line.mend()
        chats = await playing
    for chat in chats.values():
        assert chat["dropped"]["status"] == "error", "half an answer is not shown as a whole one"
        assert chat["dropped"]["finishes"] == [{"isAbort": False, "isDisconnect": True, "isError": True}]
        assert expected_text(150).startswith(texts(chat["dropped"])[1])
        assert texts(chat["after"]) == [asked, expected_text(150)]
        assert chat["after"]["status"] == "ready"


@WAYS
async def test_a_lost_worker_s_answer_is_replaced_by_the_replay(
    start: Start, node: Node, how: str, versions: list[str]
) -> None:
    asked = "[[tokens=150 rate=25 vary]] {version}"
    async with start(lease_seconds=0.5) as served:
        playing = asyncio.create_task(
            node.play("chat", "recover", url=served.url, versions=versions, text=asked, how=how)
        )
        await all_show(served, 60, versions)
        await lose_the_workers(served)
        chats = await playing
    for chat in chats.values():
        assert chat["dropped"]["finishes"] == [{"isAbort": False, "isDisconnect": True, "isError": True}]
        assert expected_text(150, 0).startswith(texts(chat["dropped"])[1])
        assert texts(chat["after"])[1:] == [expected_text(150, 1)]


async def test_old_versions_add_the_replay_to_what_they_have(start: Start, node: Node) -> None:
    """Why docs/clients.md tells them to remount; a later version of ours must not rely on it."""
    asked = "[[tokens=150 rate=25 vary]] {version}"
    versions = [version for version in VERSIONS if version not in REBUILDING_AFTER_DROPS]
    async with start(lease_seconds=0.5) as served:
        playing = asyncio.create_task(
            node.play("chat", "recover", url=served.url, versions=versions, text=asked, how="resume")
        )
        await all_show(served, 60, versions)
        await lose_the_workers(served)
        chats = await playing
    for chat in chats.values():
        assert texts(chat["after"])[1] == texts(chat["dropped"])[1] + expected_text(150, 1)


async def test_the_module_without_reset_step_reports_a_restart_as_a_drop(start: Start, node: Node) -> None:
    asked = "[[tokens=150 rate=25 vary]] {version}"
    async with start(lease_seconds=0.5) as served:
        playing = asyncio.create_task(
            node.play(
                "chat",
                "recover",
                url=served.url,
                versions=["react"],
                text=asked,
                how="resume",
                resumable=True,
            )
        )
        await all_show(served, 60, ["react"])
        await lose_the_workers(served)
        chat = (await playing)["react"]
    assert chat["dropped"]["error"] == "network error: The answer was begun again; read it from its start."
    assert chat["dropped"]["finishes"] == [{"isAbort": False, "isDisconnect": True, "isError": True}]
    assert texts(chat["after"])[1] == expected_text(150, 1)


async def test_a_version_that_knows_reset_step_sees_the_text_replaced(start: Start, node: Node) -> None:
    parameters: dict[str, Any] = {"versions": ["react"], "resumable": True, "resetStep": True}
    async with start(lease_seconds=0.5) as served:
        playing = asyncio.create_task(
            node.play("chat", "talk", url=served.url, texts=["[[tokens=150 rate=25 vary]]"], **parameters)
        )
        await all_show(served, 60, ["react"])
        await lose_the_workers(served)
        chat = (await playing)["react"]
    assert texts(chat)[1] == expected_text(150, 1)
    assert chat["statuses"] == ["submitted", "streaming", "ready"]


async def test_other_versions_do_not_know_reset_step(start: Start, node: Node) -> None:
    """Why it is sent on request only."""
    versions = [version for version in VERSIONS if version != "react"]
    asked = ["[[tokens=150 rate=25 vary]] {version}"]
    async with start(lease_seconds=0.5) as served:
        playing = asyncio.create_task(
            node.play(
                "chat", "talk", url=served.url, versions=versions, texts=asked, resumable=True, resetStep=True
            )
        )
        await all_show(served, 60, versions)
        await lose_the_workers(served)
        chats = await playing
    assert {chat["status"] for chat in chats.values()} == {"error"}
    assert all("Type validation failed" in chat["error"] for chat in chats.values())
