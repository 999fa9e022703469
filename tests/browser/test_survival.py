"""The page when things go away in mid-answer: itself, the line, the worker, the whole service."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import redis
from playwright.sync_api import expect

from tests.browser.conftest import Special, Visit
from tests.browser.ui import Ui
from tests.double import Double, expected_text
from tests.support.line import Line
from tests.support.processes import Replica
from tests.support.waiting import eventually


def resumed_from(ui: Ui) -> list[int]:
    """The cursors with which the page asked for events."""
    found = []
    for request in ui.requests:
        if request.method == "GET" and request.url.endswith("/events"):
            found.append(int(request.headers["last-event-id"]))
    return found


def sends(ui: Ui) -> int:
    return sum(request.method == "POST" and request.url.endswith("/turns") for request in ui.requests)


def test_a_reload_in_mid_answer_goes_on_where_it_was(ui: Ui, double: Double) -> None:
    ui.send("[[tokens=400 rate=40]]")
    ui.shows("#65")
    ui.page.reload()
    ui.shows("#65")
    expect(ui.answer).to_have_attribute("aria-busy", "true")
    ui.done()
    assert ui.copied() == expected_text(400)
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)
    assert len(list(double.calls)) == 1
    assert sends(ui) == 1
    assert [cursor > 0 for cursor in resumed_from(ui)] == [True]


def test_an_answer_that_ended_while_the_page_was_away_is_there(ui: Ui, visit: Visit, double: Double) -> None:
    ui.send("[[tokens=60 rate=60]]")
    ui.shows("#16")
    ui.page.goto("about:blank")
    eventually(lambda: [call for call in double.calls if call.end], within=20)
    ui.page.go_back()
    ui.shows("#49")
    ui.done()
    assert ui.copied() == expected_text(60)
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)


def test_another_tab_follows_the_same_answer(ui: Ui) -> None:
    ui.send("[[tokens=300 rate=80]]")
    ui.shows("#16")
    other = Ui(ui.page.context.new_page(), ui.url)
    other.open("/#/" + ui.address)
    other.shows("#33")
    for one in (ui, other):
        one.page.bring_to_front()
        one.done()
        assert one.copied() == expected_text(300)
    other.check()


def test_going_to_another_chat_and_back_does_not_disturb_the_answer(ui: Ui, double: Double) -> None:
    ui.send("[[tokens=300 rate=60]]")
    ui.shows("#33")
    ui.page.get_by_role("button", name="New chat").click()
    assert ui.ask("[[say=meanwhile]]") == "meanwhile"
    ui.chats.filter(has_text="tokens=300").click()
    ui.shows("#49")
    ui.done()
    assert ui.copied() == expected_text(300)
    assert len(list(double.calls)) == 2


def test_a_line_that_is_cut_is_told_quietly_and_nothing_is_missing(
    visit: Visit, site: Replica, double: Double
) -> None:
    with Line(site.port) as line:
        ui = visit(line.url)
        ui.send("[[tokens=400 rate=40]]")
        ui.shows("#49")
        line.cut()
        expect(ui.answer).to_contain_text("Reconnecting")
        assert "#399" not in ui.answer.inner_text()
        line.mend()
        ui.done()
        expect(ui.answer).not_to_contain_text("Reconnecting")
        assert ui.copied() == expected_text(400)
        assert sends(ui) == 1
        assert min(resumed_from(ui)) > 0
    assert len(list(double.calls)) == 1


def test_a_line_cut_again_and_again_loses_and_doubles_nothing(visit: Visit, site: Replica) -> None:
    with Line(site.port) as line:
        ui = visit(line.url)
        ui.send("[[tokens=400 rate=30]]")
        for mark in ("#16", "#84", "#153"):
            ui.shows(mark)
            line.cut()
            expect(ui.answer).to_contain_text("Reconnecting")
            line.mend()
        ui.done()
        assert ui.copied() == expected_text(400)


def test_a_message_sent_offline_goes_out_once_when_the_network_is_back(ui: Ui, double: Double) -> None:
    ui.page.context.set_offline(True)
    ui.send("[[tokens=30]]")
    expect(ui.answer).to_contain_text("Offline")
    ui.page.context.set_offline(False)
    ui.shows("(0)")
    ui.done()
    assert ui.copied() == expected_text(30)
    assert len(list(double.calls)) == 1
    assert ui.questions.count() == 1


def test_a_reload_while_a_message_cannot_go_out_does_not_lose_it(ui: Ui, double: Double) -> None:
    ui.page.route("**/turns", lambda route: route.abort())
    with ui.page.expect_event("requestfailed"):
        ui.send("[[tokens=30]]")
    ui.page.unroute("**/turns")
    ui.page.reload()
    ui.shows("(0)")
    ui.done()
    assert ui.copied() == expected_text(30)
    assert len(list(double.calls)) == 1
    assert ui.questions.count() == 1


# A worker that dies is one of two, and what it leaves is taken over at once.
CLUSTER: dict[str, Any] = {"workers": 2, "lease_seconds": 1, "max_attempts": 20, "drain_seconds": 20}


def owner_of_the_turn(store: redis.Redis, replica: Replica) -> int:
    """The process that runs the one running turn."""
    for key in store.scan_iter("chat:*:turn:*", _type="HASH"):
        state, owner = (str(store.hget(key, field)) for field in ("state", "owner"))
        pid = int(owner.rpartition(":")[2])
        if state == "running" and pid in replica.workers():
            return pid
    raise AssertionError("no worker of this replica runs a turn")


@pytest.mark.fault
def test_a_worker_killed_in_mid_answer_costs_the_reader_a_short_pause(
    visit: Visit, special: Special, store: redis.Redis, double: Double
) -> None:
    replica = special("serve", **CLUSTER)
    ui = visit(replica.url)
    ui.send("[[tokens=300 rate=40 vary]]")
    ui.shows("#49")
    os.kill(owner_of_the_turn(store, replica), signal.SIGKILL)
    ui.shows("(1)")  # the second attempt has another text: it has replaced the first one
    ui.done()
    assert ui.copied() == expected_text(300, 1)
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)
    expect(ui.answer.locator(".failure")).to_be_hidden()
    assert len(list(double.calls)) == 2
    assert sends(ui) == 1


@pytest.mark.fault
def test_all_workers_killed_at_once_are_survived_too(visit: Visit, special: Special, double: Double) -> None:
    replica = special("serve", **CLUSTER)
    ui = visit(replica.url)
    ui.send("[[tokens=300 rate=40 vary]]")
    ui.shows("#49")
    for pid in replica.workers():
        os.kill(pid, signal.SIGKILL)
    ui.shows("(1)")
    ui.done()
    assert ui.copied() == expected_text(300, 1)
    assert sends(ui) == 1


@pytest.mark.fault
def test_a_deploy_in_mid_answer_is_not_noticed(visit: Visit, special: Special) -> None:
    old = special("serve", **CLUSTER)
    ui = visit(old.url)
    ui.send("[[tokens=400 rate=50]]")
    ui.shows("#49")
    old.signal(signal.SIGTERM)
    ui.done()
    assert ui.copied() == expected_text(400)
    assert resumed_from(ui) == []


def test_a_page_that_slept_through_the_end_of_its_line_reconnects_on_waking(ui: Ui) -> None:
    """The line is silent, not closed: only the clock tells. The clock is the page's, not ours."""
    ui.page.clock.install()
    ui.send("[[tokens=200 rate=100 fault=stall after=100 seconds=12]]")
    ui.shows("#84")
    ui.page.clock.run_for(50_000)  # more than three heartbeats
    ui.page.clock.resume()
    ui.done()
    assert ui.copied() == expected_text(200)
    assert len(resumed_from(ui)) == 1
