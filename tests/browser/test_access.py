"""The page for everybody: keyboard, screen readers, contrast in light and dark, small screens."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, Literal

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.test_images import RED, TAKES, choose, pick
from tests.browser.test_tools import turn
from tests.browser.ui import Ui, saying

AXE: Final = (files("axe_playwright_python") / "axe.min.js").read_text()
EVERYTHING: Final = (
    "# A heading\n\nText with `code`, a [link](https://ok.example/) and **weight**.\n\n"
    "```python\n"
    + "print('wide') " * 30
    + "\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\n- one\n- two\n"
)
PHONE: Final = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def findings(ui: Ui) -> list[str]:
    """What axe finds, of any level, as text. Evaluated, because the page's policy admits no script."""
    ui.page.evaluate(AXE)
    result: dict[str, Any] = ui.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']}: {node['target']} {node['failureSummary']}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Visit, scheme: Literal["light", "dark"]) -> None:
    ui = visit(color_scheme=scheme, reduced_motion="reduce")
    assert findings(ui) == []
    ui.ask("[[reasoning=20]]" + saying(EVERYTHING))
    ui.answer.get_by_text("Reasoning").click()
    ui.questions.first.hover()
    assert findings(ui) == []
    ui.send("[[tokens=10 fault=400]]")
    expect(ui.answer.locator(".failure")).to_be_visible()
    assert findings(ui) == []
    ui.page.get_by_role("button", name="Edit this message").last.click()
    assert findings(ui) == []
    ui.page.get_by_role("textbox", name="Your message").press("Escape")
    for opener in ("Settings of this chat", "Shortcuts"):
        ui.page.get_by_role("button", name=opener).click()
        expect(ui.dialog).to_be_visible()
        assert findings(ui) == []
        ui.page.keyboard.press("Escape")
    ui.page.get_by_role("button", name="Usage").click()
    expect(ui.dialog).to_be_visible()
    assert findings(ui) == []
    ui.page.keyboard.press("Escape")
    pick(ui, RED)
    expect(ui.page.locator("#offer")).to_be_visible()
    assert findings(ui) == []
    ui.page.get_by_role("button", name="Remove image 1").click()
    ui.send("[[tokens=3000 rate=50]]")
    ui.shows("#16")
    assert findings(ui) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_images_versions_and_tools(
    visit: Visit, scheme: Literal["light", "dark"]
) -> None:
    ui = visit(color_scheme=scheme, reduced_motion="reduce")
    choose(ui, TAKES)
    pick(ui, RED)
    ui.ask("[[say=red]]")
    ui.answer.get_by_role("button", name="Answer again").click()
    expect(ui.answer.get_by_role("group", name="Versions")).to_be_visible()
    assert findings(ui) == []
    turn(ui.url, ui.address, content="[[tool=weather]] Does it rain?")
    folded = ui.answer.get_by_role("group").filter(has_text="Tool weather")
    folded.locator("summary").click()
    assert findings(ui) == []
    ui.questions.first.get_by_role("button", name="Image 1").click()
    expect(ui.dialog).to_be_visible()
    assert findings(ui) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_a_phone(visit: Visit, scheme: Literal["light", "dark"]) -> None:
    ui = visit(color_scheme=scheme, reduced_motion="reduce", **PHONE)
    ui.ask(saying(EVERYTHING))
    assert findings(ui) == []
    ui.page.get_by_role("button", name="List of chats", exact=True).click()
    assert findings(ui) == []


def test_a_phone_shows_everything_within_its_width(visit: Visit) -> None:
    ui = visit(**PHONE)
    assert ui.page.evaluate("document.documentElement.scrollWidth") == 390
    ui.ask("x" * 400 + saying(EVERYTHING))
    assert ui.page.evaluate("document.documentElement.scrollWidth") == 390
    assert ui.page.evaluate("document.querySelector('#scroll').scrollWidth") <= 390
    ui.page.get_by_role("button", name="List of chats", exact=True).click()
    expect(ui.page.get_by_role("button", name="Close the list of chats")).to_be_focused()
    expect(ui.page.locator("main")).to_have_js_property("inert", True)
    ui.page.keyboard.press("Escape")
    expect(ui.page.get_by_role("button", name="List of chats", exact=True)).to_be_focused()
    expect(ui.page.locator("main")).to_have_js_property("inert", False)


def from_the_top(ui: Ui) -> None:
    """As after a click on nothing at the page's beginning."""
    ui.page.evaluate(
        "document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')"
    )


def test_the_first_tab_stop_skips_to_the_message_field(ui: Ui) -> None:
    from_the_top(ui)
    ui.page.keyboard.press("Tab")
    skip = ui.page.get_by_role("link", name="Skip to the message field")
    expect(skip).to_be_focused()
    ui.page.keyboard.press("Enter")
    expect(ui.field).to_be_focused()
    assert ui.address == ""


def test_everything_can_be_reached_by_the_tab_key_in_the_order_of_the_page(ui: Ui) -> None:
    ui.ask("[[say=ok]]")
    from_the_top(ui)
    names: list[str] = []
    for _ in range(30):
        ui.page.keyboard.press("Tab")
        name = ui.page.evaluate(
            "document.activeElement.getAttribute('aria-label') || document.activeElement.title ||"
            " document.activeElement.textContent.trim()"
        )
        if "Skip" in str(name) and names:
            break
        names.append(str(name))
    order = [
        "Skip to the message field",
        "New chat",
        "[[say=ok]]",
        "Options of [[say=ok]]",
        "Theme: system",
        "Shortcuts",
        "List of chats",
        "Settings of this chat",
        "Conversation",
        "Edit this message",
        "Copy this message",
        "Copy this answer",
        "Answer again",
        "Message",
    ]
    assert [name for name in names if name in order] == order, names


def test_shortcuts(ui: Ui) -> None:
    ui.ask("[[say=ok]]")
    ui.page.keyboard.press("Alt+n")
    assert ui.address == ""
    expect(ui.field).to_be_focused()
    ui.page.get_by_role("button", name="New chat").focus()
    ui.page.keyboard.press("/")
    expect(ui.field).to_be_focused()
    expect(ui.field).to_have_value("")
    ui.page.get_by_role("button", name="New chat").focus()
    ui.page.keyboard.press("?")
    expect(ui.dialog.get_by_role("heading", name="Shortcuts")).to_be_visible()
    ui.page.keyboard.press("Escape")
    expect(ui.dialog).to_have_count(0)
    expect(ui.page.get_by_role("button", name="New chat")).to_be_focused()


def test_screen_readers_hear_of_beginnings_and_ends_and_not_of_every_word(ui: Ui) -> None:
    log = ui.page.get_by_role("log")
    expect(log).to_have_attribute("aria-live", "polite")
    heard = ui.page.locator("#status")
    ui.send("[[tokens=200 rate=40]]")
    expect(heard).to_have_text("The answer has begun")
    expect(ui.answer).to_have_attribute("aria-busy", "true")
    ui.done()
    expect(heard).to_have_text("The answer is complete")


def test_the_theme_follows_the_system_until_one_is_chosen(visit: Visit) -> None:
    ui = visit(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = ui.page.evaluate(background)
    ui.page.get_by_role("button", name="Theme: system").click()
    light = ui.page.evaluate(background)
    assert light != dark
    ui.page.reload()
    assert ui.page.evaluate(background) == light
    ui.page.get_by_role("button", name="Theme: light").click()
    assert ui.page.evaluate(background) == dark


def test_the_list_of_chats_can_be_put_away(ui: Ui) -> None:
    toggle = ui.page.get_by_role("button", name="List of chats", exact=True)
    expect(toggle).to_have_attribute("aria-expanded", "true")
    toggle.click()
    expect(toggle).to_have_attribute("aria-expanded", "false")
    expect(ui.page.get_by_role("button", name="New chat")).to_have_count(0)
