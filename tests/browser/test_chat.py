"""The page: sending, streaming, stopping, answering again, editing."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.ui import Ui
from tests.double import Double, expected_text
from tests.support.waiting import eventually


def test_an_answer_streams_and_is_exact_to_the_character(ui: Ui) -> None:
    ui.send("[[tokens=300 rate=60]]")
    ui.shows("#33")
    expect(ui.answer).to_have_attribute("aria-busy", "true")
    assert "#293" not in ui.answer.inner_text()
    ui.done()
    assert ui.copied() == expected_text(300)


def test_the_next_answer_knows_what_was_said(ui: Ui) -> None:
    assert ui.ask("[[say=Four.]]") == "Four."
    context = ui.ask("and then? [[echo]]")
    assert '"Four."' in context
    assert ui.questions.count() == ui.answers.count() == 2


def test_enter_sends_and_shift_enter_starts_a_line(ui: Ui) -> None:
    ui.field.press_sequentially("one")
    ui.field.press("Shift+Enter")
    ui.field.press_sequentially("two [[say=ok]]")
    ui.field.press("Enter")
    ui.done()
    assert ui.questions.first.inner_text() == "one\ntwo [[say=ok]]"


def test_escape_stops_the_answer_and_keeps_what_was_said(ui: Ui, double: Double) -> None:
    ui.send("[[tokens=2000 rate=50]]")
    ui.shows("#16")
    ui.field.press("Escape")
    ui.done()
    kept = ui.copied()
    assert expected_text(2000).startswith(kept)
    assert "#16" in kept
    expect(ui.answer).to_contain_text("Stopped")
    ui.page.reload()
    ui.shows("#16")
    assert ui.copied() == kept
    expect(ui.answer).to_contain_text("Stopped")


def test_the_stop_button_stops_before_the_first_word(ui: Ui) -> None:
    ui.send("[[tokens=20 first_delay=30]]")
    ui.page.get_by_role("button", name="Stop the answer").click()
    ui.done()
    expect(ui.answer).to_contain_text("Stopped")
    assert ui.ask("[[say=next]]") == "next"


def test_answer_again_replaces_the_answer(ui: Ui) -> None:
    assert ui.ask("[[tokens=40 vary]]") == expected_text(40, 0)
    ui.answer.get_by_role("button", name="Answer again").click()
    ui.shows("(1)")
    ui.done()
    assert ui.copied() == expected_text(40, 1)
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)
    ui.page.reload()
    ui.shows("(1)")
    assert ui.copied() == expected_text(40, 1)


def test_an_edited_message_is_answered_anew_and_drops_what_followed(ui: Ui) -> None:
    ui.ask("[[tokens=10]]")
    ui.ask("[[tokens=10 seed=1]]")
    ui.questions.first.hover()
    ui.questions.first.get_by_role("button", name="Edit this message").click()
    editor = ui.page.get_by_role("textbox", name="Your message")
    expect(editor).to_be_focused()
    editor.fill("better [[tokens=30 seed=7]]")
    editor.press("Enter")
    ui.shows("(7)")
    ui.done()
    assert ui.copied() == expected_text(30, 7)
    assert ui.page.locator(".bubble").all_inner_texts() == ["better [[tokens=30 seed=7]]"]
    ui.page.reload()
    ui.shows("(7)")
    assert ui.page.locator(".bubble").all_inner_texts() == ["better [[tokens=30 seed=7]]"]


def test_arrow_up_edits_the_last_message_and_escape_leaves_it_as_it_was(ui: Ui) -> None:
    ui.ask("first [[say=a]]")
    ui.field.press("ArrowUp")
    editor = ui.page.get_by_role("textbox", name="Your message")
    expect(editor).to_have_value("first [[say=a]]")
    editor.press("Escape")
    expect(editor).to_have_count(0)
    assert ui.page.locator(".bubble").all_inner_texts() == ["first [[say=a]]"]


def test_reasoning_is_shown_folded_and_stays_after_a_reload(ui: Ui) -> None:
    ui.ask("[[tokens=5 reasoning=30]]")
    for _ in range(2):
        thoughts = ui.answer.locator(".thoughts")
        expect(thoughts).to_be_hidden()
        ui.answer.get_by_text("Reasoning").click()
        expect(thoughts).to_have_text(re.compile(r"^\(-1\)"))
        assert thoughts.text_content() == expected_text(30, -1)
        ui.page.reload()
        ui.shows("(0)")


def test_code_has_its_language_and_a_button_that_copies_exactly_it(ui: Ui) -> None:
    code = "def f(x):\n    return x < 1 and '<b>'\n"
    ui.ask('[[say="Here:\\n\\n```python\\n' + code.replace("\n", "\\n") + '```\\n\\nDone."]]')
    figure = ui.answer.get_by_role("figure")
    expect(figure.locator("figcaption span")).to_have_text("python")
    figure.get_by_role("button", name="Copy this python").click()
    ui.page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('def')")
    assert ui.page.evaluate("navigator.clipboard.readText()") == code


def test_an_answer_block_by_block_looks_as_the_same_text_at_once(ui: Ui) -> None:
    ui.send("[[tokens=900 rate=400]]")
    ui.shows("#16")
    ui.done()
    streamed = ui.answer.locator(".text").inner_html()
    ui.page.reload()
    ui.shows("#16")
    # A long text is put there in slices.
    eventually(lambda: ui.answer.locator(".text").inner_html() == streamed, within=30)


def test_an_edit_waits_for_the_running_answer_and_is_not_lost(ui: Ui) -> None:
    ui.send("[[tokens=4000 rate=50]]")
    ui.shows("#16")
    ui.questions.first.hover()
    ui.questions.first.get_by_role("button", name="Edit this message").click()
    editor = ui.page.get_by_role("textbox", name="Your message")
    editor.fill("[[say=edited]]")
    editor.press("Enter")
    expect(ui.page.get_by_role("alert").last).to_contain_text("An answer is running.")
    expect(editor).to_have_value("[[say=edited]]")
    ui.page.get_by_role("button", name="Stop the answer").click()
    ui.done()
    editor.press("Enter")
    ui.shows("edited")
    assert ui.page.locator(".bubble").all_inner_texts() == ["[[say=edited]]"]


def test_an_answer_stopped_before_its_first_word_says_so_after_a_reload_and_can_be_asked_for_again(
    ui: Ui,
) -> None:
    ui.send("[[tokens=20 first_delay=30]]")
    ui.page.get_by_role("button", name="Stop the answer").click()
    ui.done()
    ui.page.reload()
    expect(ui.answer).to_contain_text("Stopped")
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)
    ui.answer.get_by_role("button", name="Answer again").click()
    expect(ui.page.get_by_role("button", name="Stop the answer")).to_be_visible()
