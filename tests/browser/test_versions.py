"""Earlier versions of an answer and of a question: arrows lead from one to the other."""

from __future__ import annotations

import httpx
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Visit
from tests.browser.ui import Ui
from tests.double import Double
from tests.double.faults import Fault


def place(message: Locator) -> Locator:
    return message.get_by_role("group", name="Versions").locator("span")


def press(message: Locator, name: str) -> None:
    message.hover()
    message.get_by_role("button", name=name).click()


def again(ui: Ui, shown: str) -> None:
    """Answer again; `shown` is how many versions there are then."""
    press(ui.answer, "Answer again")
    expect(place(ui.answer)).to_have_text(shown)


def rewrite(ui: Ui, question: Locator, text: str) -> None:
    press(question, "Edit this message")
    ui.page.get_by_role("textbox", name="Your message").fill(text)
    ui.page.get_by_role("textbox", name="Your message").press("Enter")


def stored(ui: Ui) -> list[str]:
    found = httpx.get(f"{ui.url}/v1/sessions/{ui.address}/messages").raise_for_status().json()["data"]
    return [message["content"] for message in found]


def test_arrows_lead_to_the_answers_that_were_there_before(ui: Ui) -> None:
    first = ui.ask("[[tokens=20 vary]]")
    expect(place(ui.answer)).to_be_hidden()
    again(ui, "2/2")
    second = ui.copied()
    again(ui, "3/3")
    third = ui.copied()
    assert len({first, second, third}) == 3
    expect(ui.answer.get_by_role("button", name="Later version")).to_be_disabled()
    press(ui.answer, "Earlier version")
    expect(place(ui.answer)).to_have_text("2/3")
    expect(ui.answer.get_by_role("button", name="Earlier version")).to_be_focused()
    assert ui.copied() == second
    assert stored(ui)[1] == second
    press(ui.answer, "Earlier version")
    expect(place(ui.answer)).to_have_text("1/3")
    expect(ui.answer.get_by_role("button", name="Earlier version")).to_be_disabled()
    expect(ui.answer.get_by_role("button", name="Later version")).to_be_focused()
    assert ui.copied() == first
    ui.page.reload()
    expect(place(ui.answer)).to_have_text("1/3")
    for number, text in ((2, second), (3, third)):
        press(ui.answer, "Later version")
        expect(place(ui.answer)).to_have_text(f"{number}/3")
        assert ui.copied() == text
    expect(ui.questions).to_have_count(1)


def test_arrows_lead_to_a_question_as_it_was_with_all_that_followed_it(ui: Ui) -> None:
    ui.ask("one [[say=first]]")
    ui.ask("two [[say=second]]")
    rewrite(ui, ui.questions.first, "other [[say=third]]")
    expect(place(ui.questions.first)).to_have_text("2/2")
    ui.shows("third")
    expect(ui.answers).to_have_count(1)
    press(ui.questions.first, "Earlier version")
    expect(ui.answers).to_have_count(2)
    ui.shows("second")
    expect(place(ui.questions.first)).to_have_text("1/2")
    assert stored(ui) == ["one [[say=first]]", "first", "two [[say=second]]", "second"]
    assert ui.ask("three [[say=fourth]]") == "fourth"
    press(ui.questions.first, "Later version")
    expect(ui.answers).to_have_count(1)
    assert stored(ui) == ["other [[say=third]]", "third"]
    press(ui.questions.first, "Earlier version")
    expect(ui.answers).to_have_count(3)


def test_an_answer_comes_back_when_the_one_in_its_place_failed(ui: Ui, double: Double) -> None:
    first = ui.ask("[[say=kept]]")
    double.faults.add(Fault.parse({"kind": "400"}, times=10))
    press(ui.answer, "Answer again")
    expect(place(ui.answer)).to_have_text("2/2")  # the messages have been read since
    expect(ui.answer.locator(".failure")).to_contain_text("The request was refused by the double.")
    ui.page.reload()
    expect(place(ui.answer)).to_have_text("2/2")
    expect(ui.answer.locator(".failure")).to_be_visible()
    double.faults.clear()
    press(ui.answer, "Earlier version")
    ui.shows("kept")
    assert ui.copied() == first
    expect(ui.answer.locator(".failure")).to_be_hidden()


def test_another_tab_sees_the_version_that_was_chosen(visit: Visit) -> None:
    ui = visit()
    first = ui.ask("[[tokens=20 vary]]")
    again(ui, "2/2")
    other = visit(path=f"/#/{ui.address}")
    expect(place(other.answer)).to_have_text("2/2")
    press(ui.answer, "Earlier version")
    expect(place(other.answer)).to_have_text("1/2")
    assert other.copied() == first


def test_no_version_is_chosen_while_an_answer_runs(ui: Ui) -> None:
    ui.ask("[[say=one]]")
    again(ui, "2/2")
    ui.send("[[tokens=2000 rate=50]]")
    ui.shows("#16")
    press(ui.answers.first, "Earlier version")
    expect(ui.page.get_by_role("alert").last).to_contain_text("An answer is running. Stop it first.")
    expect(place(ui.answers.first)).to_have_text("2/2")
