"""A phone and a laptop on one chat: each sees what happens at the other, the text byte for byte."""

from __future__ import annotations

import os
import signal

import httpx
import pytest
import redis
from playwright.sync_api import expect

from tests.browser.conftest import Special, Visit
from tests.browser.test_survival import CLUSTER, owner_of_the_turn
from tests.browser.ui import Ui
from tests.double import expected_text
from tests.support.waiting import eventually

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def test_questions_answers_titles_and_the_end_are_seen_on_the_other_device(visit: Visit) -> None:
    laptop = visit()
    assert laptop.ask("[[say=one]]") == "one"
    phone = visit(path=f"/#/{laptop.address}", **PHONE)
    phone.shows("one")
    laptop.send("slowly [[tokens=200 rate=60]]")
    phone.shows("#33")
    expect(phone.answer).to_have_attribute("aria-busy", "true")
    for ui in (laptop, phone):
        ui.page.bring_to_front()
        ui.done()
        assert ui.copied() == expected_text(200)
        assert (ui.questions.count(), ui.answers.count()) == (2, 2)
    phone.send("back [[say=quokka]]")
    laptop.shows("quokka")
    laptop.done()
    assert laptop.questions.last.inner_text() == "back [[say=quokka]]"
    laptop.answer.get_by_role("button", name="Answer again").click()
    laptop.done()
    laptop.option("say=one", "Rename")
    laptop.dialog.get_by_role("textbox", name="Title").fill("a name")
    laptop.page.keyboard.press("Enter")
    expect(phone.page.get_by_role("heading", level=1)).to_have_text("a name")
    assert (phone.questions.count(), phone.answers.count()) == (3, 3)
    laptop.option("a name", "Delete")
    laptop.dialog.get_by_role("button", name="Delete").click()
    expect(phone.page.locator("#state")).to_contain_text("This chat is gone")


def test_what_happened_while_the_line_was_gone_is_there_when_it_is_back(visit: Visit) -> None:
    laptop = visit()
    laptop.ask("[[say=one]]")
    phone = visit(path=f"/#/{laptop.address}", **PHONE)
    phone.shows("one")
    phone.page.context.set_offline(True)
    laptop.ask("[[say=two]]")
    laptop.ask("[[say=three]]")
    phone.page.context.set_offline(False)
    phone.shows("three")
    assert (phone.questions.count(), phone.answers.count()) == (3, 3)


def test_a_page_holds_one_stream_at_a_time(ui: Ui) -> None:
    streams: list[str] = []

    def ended(url: str) -> None:
        if url in streams:
            streams.remove(url)

    def begun(url: str) -> None:
        if url.partition("?")[0].endswith(("/events", "/turns")):
            streams.append(url)

    ui.page.on("request", lambda request: begun(request.url))
    ui.page.on("requestfinished", lambda request: ended(request.url))
    ui.page.on("requestfailed", lambda request: ended(request.url))

    def holds(ending: str) -> bool:
        ui.page.wait_for_timeout(50)  # lets the browser's events in
        return len(streams) == 1 and f"/{ui.address}{ending}" in streams[0]

    for _ in range(2):
        ui.send("[[tokens=4000 rate=80]]")  # until it is stopped
        ui.shows("#16")
        eventually(lambda: holds("/turns"), within=10)
        ui.page.get_by_role("button", name="Stop the answer").click()
        ui.done()
        eventually(lambda: holds("/events?after="), within=10)


@pytest.mark.fault
def test_two_tabs_and_a_phone_show_the_same_through_a_killed_worker(
    visit: Visit, special: Special, store: redis.Redis
) -> None:
    replica = special("serve", **CLUSTER)
    laptop = visit(replica.url)
    laptop.ask("[[say=one]]")
    phone = visit(replica.url, path=f"/#/{laptop.address}", **PHONE)
    phone.shows("one")
    tab = Ui(laptop.page.context.new_page(), replica.url).open(f"/#/{laptop.address}")
    tab.shows("one")
    laptop.send("[[tokens=300 rate=40 vary]]")
    phone.shows("#49")
    os.kill(owner_of_the_turn(store, replica), signal.SIGKILL)
    for ui in (laptop, tab, phone):
        ui.page.bring_to_front()
        ui.shows("(1)")
        ui.done()
        assert ui.copied() == expected_text(300, 1)
        assert (ui.questions.count(), ui.answers.count()) == (2, 2)
    tab.check()


def test_a_chat_answered_for_another_client_is_followed_too(ui: Ui) -> None:
    ui.ask("[[say=one]]")
    url = f"{ui.url}/v1/sessions/{ui.address}/turns"
    body = {"content": "from a program [[tokens=100 rate=60]]"}
    httpx.post(url, json=body, headers={"Prefer": "respond-async"}).raise_for_status()
    ui.shows("#33")
    ui.done()
    assert ui.copied() == expected_text(100)
    assert ui.questions.last.inner_text().startswith("from a program")
