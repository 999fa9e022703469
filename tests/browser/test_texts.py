"""What the page says stands in one file for each language, and nowhere else; which language it speaks."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.ui import PATIENCE_MS, Ui
from tests.support.running import ROOT

WEB: Final = ROOT / "service" / "web"
#: each text by its path, with its kind: "string", or "function" and how much it takes
SHAPE: Final = """async (language) => {
    const texts = (await import(new URL(`ui/js/texts.${language}.js`, document.baseURI))).default;
    const found = {};
    const look = (value, path) => {
        if (typeof value === "object") for (const name in value) look(value[name], [...path, name]);
        else if (typeof value === "function") found[path.join(".")] = `function ${value.length}`;
        else found[path.join(".")] = value ? "text" : "none";
    };
    look(texts, []);
    return found;
}"""
#: words in strings of scripts that nobody reads: names of keys, headers, events, elements, styles
NAMES: Final = re.compile(
    r"Escape|Enter|ArrowUp|KeyN|Files|AbortError|Bearer \$|Accept|Authorization|Content-Type|Retry-After|"
    r"Last-Event-ID|Idempotency-Key|If-Match|X-Turn-Id|English|Deutsch|use strict|noreferrer noopener|"
    r"noopener noreferrer|\(hover.*|.*\[data-.*|chat\.[a-z.]*|input, .*|p, h1, .*|summary span|<code .*|"
    r"\$?[.…]"
)

TECHNICAL: Final = (
    "colours.js",
    "keys.js",
    "parse.js",
    "pieces.js",
    "sanitize.js",
    "speech.js",
    "textfile.js",
)


def shape(ui: Ui, language: str) -> dict[str, str]:
    found: dict[str, str] = ui.page.evaluate(SHAPE, language)
    return found


def test_all_languages_have_the_same_texts(ui: Ui) -> None:
    english = shape(ui, "en")
    assert len(english) > 150
    assert "none" not in english.values()
    assert shape(ui, "de") == english


def scripts() -> dict[str, str]:
    """Without comments, the tables of texts, and regular expressions."""
    found = {}
    for path in sorted(WEB.glob("js/*.js")):
        if path.name.startswith("texts."):
            continue
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        found[path.name] = re.sub(r"(^|\s)//.*$", "", text, flags=re.M)
    return found


def test_every_text_is_said_and_every_text_that_is_said_exists() -> None:
    table = (WEB / "js" / "texts.en.js").read_text()
    there = set(re.findall(r"^  (\w+):", table, re.M))
    html = (WEB / "index.html").read_text()
    said = {entry.split("@")[0] for entry in " ".join(re.findall(r'data-say="([^"]+)"', html)).split()}
    for text in scripts().values():
        said |= set(re.findall(r"(?<![\w.#/])texts\.(\w+)", text))
    assert said == there


def test_no_text_stands_outside_the_tables() -> None:
    words = re.compile(r"[A-Za-z]{2,},? [a-z]{2,}|^[A-Z][a-z]+(?=[ .…]|$)|[.…]$")
    loose = []
    for name, text in scripts().items():
        for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`', text):
            said = re.sub(r"\$\{.*?\}", "$", "".join(literal))
            if words.search(said) and name not in TECHNICAL and not NAMES.fullmatch(said):
                loose.append(f"{name}: {said}")
    assert loose == []
    body = (WEB / "index.html").read_text().partition("<body>")[2].partition("<noscript>")[0]
    assert re.findall(r">[^<>]*[A-Za-z][^<>]*<", body) == []
    assert re.findall(r'(?:aria-label|placeholder|title)="[^"]*"', body) == []


@pytest.mark.parametrize(
    ("locale", "headline"),
    [("de-AT", "Was möchten Sie wissen?"), ("fr-FR", "What would you like to know?")],
)
def test_the_page_speaks_the_language_of_the_browser_where_it_can(
    visit: Visit, locale: str, headline: str
) -> None:
    ui = visit(locale=locale)
    expect(ui.page.get_by_role("heading", name=headline)).to_be_visible()
    assert ui.page.evaluate("document.documentElement.lang") == locale[:2].replace("fr", "en")


def test_a_whole_conversation_in_german(visit: Visit) -> None:
    ui = visit(locale="de-DE")
    field = ui.page.get_by_role("textbox", name="Nachricht")
    field.fill("[[say=hallo]]")
    field.press("Enter")
    answer = ui.page.get_by_role("article", name="Antwort")
    expect(answer).to_contain_text("hallo")
    expect(ui.page.locator("#send")).to_have_accessible_name("Senden", timeout=PATIENCE_MS)
    expect(answer.locator(".facts")).to_contain_text(re.compile(r"· \d\d:\d\d · \d+ Token$"))
    expect(ui.page.get_by_role("navigation", name="Chats").get_by_role("heading")).to_have_text("Heute")
    ui.page.get_by_role("button", name="Tastenkürzel").click()
    expect(ui.dialog.locator("kbd")).to_have_text(
        [
            "Eingabe",
            "Umschalt",
            "Eingabe",
            "Esc",
            "↑",
            "/",
            "Strg",
            "K",
            "Alt",
            "B",
            "Alt",
            "C",
            "Alt",
            "N",
            "?",
        ]
    )


def test_a_language_that_was_chosen_stays(ui: Ui) -> None:
    ui.field.fill("half a thou")
    for name in ("Language: system", "Language: English"):
        ui.page.get_by_role("button", name=name).click()
    headline = ui.page.get_by_role("heading", name="Was möchten Sie wissen?")
    expect(headline).to_be_visible()
    ui.page.reload()
    expect(headline).to_be_visible()
    expect(ui.page.get_by_role("textbox", name="Nachricht")).to_have_value("half a thou")
    ui.page.get_by_role("button", name="Sprache: Deutsch").click()
    expect(ui.page.get_by_role("button", name="Language: system")).to_be_visible()


@pytest.mark.parametrize(
    ("locale", "time"),
    [("en-GB", "at 18:40"), ("en-US", "at 06:40 PM"), ("de-DE", "um 18:40"), ("fr-FR", "at 18:40")],
)
def test_times_are_written_as_the_language_does(visit: Visit, locale: str, time: str) -> None:
    ui = visit(locale=locale, timezone_id="UTC")
    said: Any = ui.page.evaluate(
        """async () => {
            const { clock } = await import(new URL("ui/js/words.js", document.baseURI));
            return clock(Date.UTC(2026, 0, 5, 18, 40), Date.UTC(2026, 0, 5, 12)).replace("\\u202f", " ");
        }"""
    )
    assert said == time
