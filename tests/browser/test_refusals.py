"""The page when the service says no: keys, limits, failures, all in words and with a way on."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import Special, Visit
from tests.browser.ui import Ui
from tests.double import Double, expected_text
from tests.double.faults import Fault
from tests.support.redis import RedisServer
from tests.support.running import call


def new_key(redis_server: RedisServer, directory: Path) -> str:
    made = call("keys", "create", "--name", "page", cwd=directory, CHAT_REDIS_URL=redis_server.url)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_a_key_is_asked_for_once_and_kept_for_the_tab(
    visit: Visit, special: Special, redis_server: RedisServer, tmp_path: Path
) -> None:
    site = special(auth="keys")
    ui = visit(site.url)
    ui.dialog.get_by_label("API key", exact=True).fill("no-such-key")
    ui.dialog.get_by_role("button", name="Use this key").click()
    expect(ui.dialog).to_contain_text("That key was not accepted.")
    ui.dialog.get_by_label("API key", exact=True).fill(new_key(redis_server, tmp_path))
    ui.dialog.get_by_role("button", name="Use this key").click()
    expect(ui.dialog).to_have_count(0)
    assert ui.ask("[[say=let in]]") == "let in"
    ui.page.reload()
    ui.shows("let in")
    expect(ui.dialog).to_have_count(0)
    assert ui.page.evaluate("localStorage.getItem('chat.key')") is None
    assert not [request.url for request in ui.requests if "key=" in request.url]


def test_a_key_may_be_kept_on_the_device(
    visit: Visit, special: Special, redis_server: RedisServer, tmp_path: Path
) -> None:
    site = special(auth="keys")
    ui = visit(site.url)
    ui.dialog.get_by_label("API key", exact=True).fill(new_key(redis_server, tmp_path))
    ui.dialog.get_by_role("checkbox").check()
    ui.dialog.get_by_role("button", name="Use this key").click()
    expect(ui.dialog).to_have_count(0)
    other = Ui(ui.page.context.new_page(), ui.url).open()
    assert other.ask("[[say=known here]]") == "known here"


def test_without_a_key_the_message_is_not_lost(
    visit: Visit, special: Special, redis_server: RedisServer, tmp_path: Path
) -> None:
    ui = visit(special(auth="keys").url)
    ui.dialog.get_by_role("button", name="Not now").click()
    expect(ui.page.get_by_role("alert").last).to_contain_text("needs an API key")
    ui.send("precious words")
    ui.dialog.get_by_role("button", name="Not now").click()
    expect(ui.field).to_have_value("precious words")
    ui.page.get_by_role("button", name="API key").click()
    ui.dialog.get_by_label("API key", exact=True).fill(new_key(redis_server, tmp_path))
    ui.dialog.get_by_role("button", name="Use this key").click()
    assert ui.ask("precious words [[say=heard]]") == "heard"


def test_a_limit_is_counted_down_in_words_and_the_message_goes_by_itself(
    visit: Visit, special: Special, double: Double
) -> None:
    ui = visit(special(limit_sends="1/4 second", limit_window="moving").url)
    assert ui.ask("[[say=one]]") == "one"
    ui.send("[[say=two]]")
    waiting = ui.answer.locator(".link")
    expect(waiting).to_contain_text(
        re.compile(r"as many messages as your limit allows for now\. Trying again in [1-4] s\.")
    )
    ui.shows("two")
    ui.done()
    expect(waiting).to_be_hidden()
    assert len(list(double.calls)) == 2
    assert ui.questions.count() == 2


def test_a_wait_can_be_called_off_and_gives_the_message_back(visit: Visit, special: Special) -> None:
    ui = visit(special(limit_sends="2/minute").url)  # a new chat costs one, as its first message does
    ui.ask("[[say=one]]")
    ui.send("[[say=two]]")
    ui.answer.get_by_role("button", name="Cancel").click()
    expect(ui.field).to_have_value("[[say=two]]")
    expect(ui.questions).to_have_count(1)
    ui.shows("one")


def refusals(double: Double, kind: str, times: int, **fields: object) -> None:
    double.faults.add(Fault.parse({"kind": kind, **fields}, times=times))


def test_a_failure_is_told_in_words_and_can_be_tried_again(ui: Ui, double: Double) -> None:
    refusals(double, "401", 10)
    ui.send("[[tokens=20]]")
    failure = ui.answer.locator(".failure")
    expect(failure).to_be_visible()
    assert "{" not in failure.inner_text()
    ui.page.reload()
    expect(failure).to_be_visible()
    double.faults.clear()
    ui.answer.get_by_role("button", name="Try again").click()
    ui.shows("(0)")
    ui.done()
    assert ui.copied() == expected_text(20)
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)


def test_an_answer_that_breaks_off_keeps_its_text_and_says_so(ui: Ui, double: Double) -> None:
    ui.send("[[tokens=100 fault=cut after=40]]")
    ui.shows("The answer broke off here.")
    kept = ui.copied()
    assert expected_text(100).startswith(kept)
    assert kept
    ui.page.reload()
    expect(ui.answer.locator(".failure")).to_be_visible()
    assert ui.copied() == kept


def test_a_model_that_is_busy_is_waited_for_with_a_countdown(
    visit: Visit, special: Special, double: Double
) -> None:
    ui = visit(special(retry_budget_seconds=0).url)
    refusals(double, "429_rpm", 3, retry_after=3)  # the model and both that it falls back to
    ui.send("[[tokens=20]]")
    expect(ui.answer.locator(".link")).to_contain_text(
        re.compile(r"The model is very busy just now\. Trying again in [1-3] s\.")
    )
    ui.shows("(0)")
    ui.done()
    assert ui.copied() == expected_text(20)
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)


def test_a_chat_that_is_answering_elsewhere_gives_the_message_back(ui: Ui) -> None:
    ui.ask("[[say=here]]")
    url = f"{ui.url}/v1/sessions/{ui.address}/turns"
    httpx.post(url, json={"content": "[[tokens=300 rate=40]]"}, headers={"Prefer": "respond-async"})
    ui.send("me too")
    expect(ui.page.get_by_role("alert").last).to_contain_text("answering already")
    expect(ui.field).to_have_value("me too")
    ui.shows("#33")
    ui.done()
    assert ui.copied() == expected_text(300)


def test_an_empty_message_cannot_be_sent(ui: Ui) -> None:
    send = ui.page.get_by_role("button", name="Send")
    expect(send).to_be_disabled()
    ui.field.fill("   \n ")
    expect(send).to_be_disabled()
    ui.field.press("Enter")
    expect(ui.questions).to_have_count(0)


def test_a_message_that_is_too_large_is_refused_in_words_and_given_back(
    visit: Visit, special: Special
) -> None:
    ui = visit(special(max_body_bytes=65_536).url)
    text = "x" * 70_000
    ui.send(text)
    expect(ui.page.get_by_role("alert").last).to_contain_text("larger than the service takes")
    assert ui.field.input_value() == text
