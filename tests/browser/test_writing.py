"""Writing: drafts, the chosen model, where the focus is, small screens and their keyboards."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Visit
from tests.browser.ui import Ui

SMALL: Final = {"is_mobile": True, "has_touch": True}


def test_a_draft_stays_with_its_chat_and_survives_a_reload(ui: Ui) -> None:
    ui.field.press_sequentially("for a new one")
    ui.page.reload()
    expect(ui.field).to_have_value("for a new one")
    ui.ask("[[say=one]]")
    ui.field.press_sequentially("half a thou")
    ui.page.get_by_role("button", name="New chat").click()
    expect(ui.field).to_have_value("")
    ui.field.press_sequentially("something else")
    ui.chats.first.click()
    expect(ui.field).to_have_value("half a thou")
    ui.page.reload()
    expect(ui.field).to_have_value("half a thou")
    ui.page.go_back()
    expect(ui.field).to_have_value("something else")


def test_a_message_that_comes_back_leaves_what_was_written_since(ui: Ui) -> None:
    ui.page.route("**/turns", lambda route: route.abort())
    ui.send("first")
    ui.field.press_sequentially("second")
    ui.page.get_by_role("button", name="Stop the answer").click()
    expect(ui.field).to_have_value("first\n\nsecond")


def test_what_is_stopped_while_it_is_on_its_way_comes_back_when_it_does_not_arrive(ui: Ui) -> None:
    on_their_way: list[Route] = []
    ui.page.route("**/turns", lambda route: on_their_way.append(route))
    with ui.page.expect_request("**/turns"):
        ui.send("first")
    ui.page.get_by_role("button", name="Stop the answer").click()
    expect(ui.field).to_have_value("")
    on_their_way[0].abort()
    expect(ui.field).to_have_value("first")
    assert len(on_their_way) == 1, "it is not sent again"


def test_the_model_that_was_chosen_is_that_of_new_chats(ui: Ui) -> None:
    choice = ui.page.get_by_role("combobox", name="Model")
    choice.select_option("openai/gpt-oss-20b")
    ui.page.reload()
    expect(choice).to_have_value("openai/gpt-oss-20b")
    ui.ask("[[say=one]]")
    ui.page.get_by_role("button", name="New chat").click()
    expect(choice).to_have_value("openai/gpt-oss-20b")


def test_the_focus_is_in_the_field_after_whatever_has_taken_its_place_away(ui: Ui) -> None:
    ui.send("[[tokens=2000 rate=50]]")
    ui.shows("#16")
    ui.page.get_by_role("button", name="Stop the answer").click()
    ui.done()
    expect(ui.field).to_be_focused()
    ui.answer.get_by_role("button", name="Answer again").click()  # it goes with the answer
    expect(ui.field).to_be_focused()
    ui.page.get_by_role("button", name="Stop the answer").click()
    ui.done()
    expect(ui.field).to_be_focused()
    ui.option("tokens=2000", "Delete")
    ui.dialog.get_by_role("button", name="Delete").click()
    expect(ui.dialog).to_have_count(0)
    expect(ui.field).to_be_focused()


@pytest.mark.parametrize("width", [360, 375])
def test_the_headline_of_the_welcome_is_seen_on_small_screens(visit: Visit, width: int) -> None:
    ui = visit(viewport={"width": width, "height": 640}, **SMALL)
    headline = ui.page.get_by_role("heading", name="What would you like to know?")
    expect(ui.page.locator("#prompts button")).to_have_count(4)
    expect(headline).to_be_in_viewport(ratio=1)
    expect(ui.page.get_by_role("button", name="Newest")).to_be_hidden()
    ui.ask("[[say=one]]")
    ui.page.get_by_role("button", name="List of chats", exact=True).click()
    ui.page.get_by_role("button", name="New chat").click()
    expect(headline).to_be_in_viewport(ratio=1)


def test_where_there_is_no_shift_enter_makes_a_line_and_the_button_sends(visit: Visit) -> None:
    ui = visit(viewport={"width": 390, "height": 844}, **SMALL)
    expect(ui.field).to_have_attribute("enterkeyhint", "enter")
    ui.field.press_sequentially("one")
    ui.field.press("Enter")
    ui.field.press_sequentially("two [[say=ok]]")
    expect(ui.field).to_have_value("one\ntwo [[say=ok]]")
    ui.page.get_by_role("button", name="Send").click()
    ui.done()
    assert ui.questions.first.locator(".bubble").inner_text() == "one\ntwo [[say=ok]]"
    ui.field.press_sequentially("with a keyboard [[say=too]]")
    ui.field.press("Control+Enter")
    ui.shows("too")


def test_a_very_long_question_is_folded_and_can_be_unfolded(ui: Ui) -> None:
    ui.ask("\n".join(f"line {number}" for number in range(400)) + "[[say=read]]")
    bubble = ui.questions.first.locator(".bubble")
    assert bubble.evaluate("bubble => bubble.offsetHeight") < 400
    button = ui.questions.first.get_by_role("button", name="Show all")
    expect(button).to_have_attribute("aria-expanded", "false")
    button.click()
    assert bubble.evaluate("bubble => bubble.offsetHeight") > 8000
    ui.questions.first.get_by_role("button", name="Show less").click()
    assert bubble.evaluate("bubble => bubble.offsetHeight") < 400
