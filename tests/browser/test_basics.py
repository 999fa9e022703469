"""What people know from other chats: copies, text files, keys, reading aloud, dates, a chat from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.test_access import findings
from tests.browser.test_images import bring, encoded, pick
from tests.browser.ui import Ui, saying

#: a browser with one voice of its own and one that sends what it reads to its maker; what was said is kept
VOICES: Final = """
    window.said = [];
    window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
    const [own, far] = [{ lang: "en-GB", localService: true }, { lang: "en-US", localService: false }];
    const engine = {
        getVoices: () => window.mute ? [far] : [far, own],
        speak: (utterance) => said.push(utterance),
        cancel: () => said.push("hush"),
        addEventListener() {},
    };
    Object.defineProperty(window, "speechSynthesis", { value: engine });
"""


def messages(ui: Ui, session: str) -> list[str]:
    found = httpx.get(f"{ui.url}/v1/sessions/{session}/messages").raise_for_status().json()["data"]
    return [message["content"] for message in found]


def test_a_duplicate_is_a_chat_of_its_own(ui: Ui) -> None:
    ui.ask("one [[say=first]]")
    first = ui.address
    ui.option("one", "Duplicate")
    expect(ui.page).not_to_have_url(f"{ui.url}/#/{first}")
    expect(ui.titles.first).to_have_text("one [[say=first]] (copy)")
    ui.shows("first")
    assert ui.ask("two [[say=second]]") == "second"
    assert messages(ui, ui.address)[-1] == "second"
    assert messages(ui, first) == ["one [[say=first]]", "first"]


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_chat_branches_off_behind_an_answer(ui: Ui, reloaded: bool) -> None:
    ui.ask("one [[say=first]]")
    ui.ask("two [[say=second]]")
    whole = ui.address
    if reloaded:
        ui.page.reload()
        ui.shows("second")
    ui.answers.first.hover()
    ui.answers.first.get_by_role("button", name="Branch off here").click()
    expect(ui.answers).to_have_count(1)
    ui.shows("first")
    assert ui.address != whole
    assert '"first"' in ui.ask("and then? [[echo]]")
    assert len(messages(ui, whole)) == 4


def test_a_text_file_is_put_into_the_message(ui: Ui) -> None:
    code = b"def f():\r\n    '''```'''\r\n"
    ui.field.fill("What does it do?")
    pick(ui, {"name": "tool.py", "mimeType": "text/x-python", "buffer": code})
    expected = "What does it do?\n\ntool.py\n\n````py\ndef f():\n    '''```'''\n````"
    expect(ui.field).to_have_value(expected)
    ui.field.fill("")
    assert not bring(ui, "drop", ("", encoded("naïve".encode())), name="notes")
    expect(ui.field).to_have_value("notes\n\n```\nnaïve\n```")
    ui.field.press("Control+End")
    ui.field.press_sequentially(" [[say=read]]")
    assert ui.ask(ui.field.input_value()) == "read"
    assert messages(ui, ui.address)[0].startswith("notes\n\n```\nnaïve\n```")


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a\x00b", b"a" * 200_001])
def test_what_is_neither_an_image_nor_a_text_is_not_taken(ui: Ui, data: bytes) -> None:
    ui.field.fill("a thought")
    pick(ui, {"name": "x.bin", "mimeType": "application/octet-stream", "buffer": data})
    expect(ui.page.get_by_role("alert").last).to_contain_text("“x.bin” can not be sent")
    expect(ui.field).to_have_value("a thought")


def test_keys_that_other_chats_have_too(ui: Ui) -> None:
    ui.ask("[[say=copy me]]")
    ui.page.evaluate("navigator.clipboard.writeText('')")
    ui.field.press("Alt+c")
    expect(ui.page.locator("#status")).to_have_text("Copied")
    ui.page.wait_for_function("async () => (await navigator.clipboard.readText()) === 'copy me'")
    listing = ui.page.get_by_role("navigation", name="Chats")
    ui.field.press("Alt+b")
    expect(listing).to_have_count(0)
    ui.page.keyboard.press("Control+k")
    expect(ui.page.get_by_role("searchbox", name="Search chats")).to_be_focused()
    expect(listing).to_be_visible()
    ui.page.keyboard.press("Control+Alt+n")  # AltGr N is a letter
    expect(ui.page.get_by_role("heading", name="What would you like to know?")).to_be_hidden()
    ui.page.keyboard.press("Control+Shift+O")
    expect(ui.page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    expect(ui.field).to_be_focused()


def spoken(page: Page) -> list[str]:
    said: list[str] = page.evaluate("said.map((one) => one.text ?? one)")
    return said


def test_an_answer_is_read_aloud_by_a_voice_of_the_device_and_its_code_is_not(ui: Ui) -> None:
    ui.page.add_init_script(VOICES)
    ui.page.reload()
    ui.ask(
        saying(
            "# Title\n\nOne *line*.\n\n- a\n- b\n\n```js\nhidden()\n```\n\n| c | d |\n|---|---|\n| e | f |"
        )
    )
    button = ui.answer.get_by_role("button", name="Read aloud")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert spoken(ui.page)[1:] == ["Title", "One line.", "a", "b", "c", "d", "e", "f"]
    assert ui.page.evaluate("said.slice(1).every((one) => one.voice.localService)")
    assert findings(ui) == []
    ui.page.evaluate("said.at(-1).onend()")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    ui.page.keyboard.press("Escape")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert spoken(ui.page)[-1] == "hush"
    button.click()
    assert spoken(ui.page)[-1] == "f"
    ui.page.get_by_role("button", name="New chat").click()
    assert spoken(ui.page)[-1] == "hush"


def test_without_a_voice_of_the_device_nothing_offers_to_read(ui: Ui) -> None:
    ui.page.add_init_script(f"window.mute = true; {VOICES}")
    ui.page.reload()
    ui.ask("[[say=quiet]]")
    expect(ui.answer.get_by_role("button", name="Copy this answer")).to_be_visible()
    expect(ui.answer.get_by_role("button", name="Read aloud")).to_have_count(0)


@pytest.mark.parametrize(
    ("locale", "then", "time"),
    [
        ("en-GB", "2026-03-05T18:40", "18:40"),
        ("en-GB", "2026-03-04T18:40", "4 Mar, 18:40"),
        ("en-GB", "2025-03-05T18:40", "5 Mar 2025, 18:40"),
        ("de-DE", "2026-03-04T18:40", "4. März, 18:40"),
    ],
)
def test_an_answer_of_another_day_says_which(visit: Visit, locale: str, then: str, time: str) -> None:
    ui = visit(locale=locale, timezone_id="UTC")
    said: Any = ui.page.evaluate(
        """async (then) => {
            const { facts } = await import(new URL("ui/js/words.js", document.baseURI));
            return facts({ model: "m", created: Date.parse(then + "Z") }, Date.UTC(2026, 2, 5, 20));
        }""",
        then,
    )
    assert said == f"m · {time}"


def import_file(ui: Ui, name: str, data: bytes) -> None:
    with ui.page.expect_file_chooser() as chooser:
        ui.page.get_by_role("button", name="Import a chat").click()
    chooser.value.set_files({"name": name, "mimeType": "application/json", "buffer": data})


def test_an_exported_chat_is_imported_as_a_new_one(ui: Ui, tmp_path: Path) -> None:
    for number in range(12):
        ui.ask(f"number {number} [[say=**{number}**]]")
    first = ui.address
    with ui.page.expect_download() as download:
        ui.option("number 0", "Export as JSON")
    import_file(ui, "chat.json", download.value.path().read_bytes())
    expect(ui.page).not_to_have_url(f"{ui.url}/#/{first}")
    expect(ui.answers).to_have_count(12)
    expect(ui.answer.locator("strong")).to_have_text("11")
    assert messages(ui, ui.address) == messages(ui, first)
    assert '"**11**"' in ui.ask("and? [[echo]]")


def refusing(route: Route) -> None:
    route.fulfill(status=503, json={"code": "store_unavailable", "detail": "no"})


@pytest.mark.parametrize(
    "data", [b"{", b"null", b"[]", b'{"session": {}}', b'{"session": 1, "messages": []}']
)
def test_a_file_that_is_no_chat_is_not_imported(ui: Ui, data: bytes) -> None:
    import_file(ui, "other.json", data)
    expect(ui.page.get_by_role("alert").last).to_have_text(
        "“other.json” was not imported. It is not a chat that was exported here as JSON."
    )
    assert httpx.get(f"{ui.url}/v1/sessions").json()["data"] == []


def test_an_import_that_breaks_off_leaves_nothing(ui: Ui) -> None:
    ui.page.route("**/items", refusing)
    chat = {"session": {"title": "half"}, "messages": [{"role": "user", "content": "one"}]}
    import_file(ui, "half.json", json.dumps(chat).encode())
    expect(ui.page.get_by_role("alert").last).to_contain_text("“half.json” was not imported.")
    assert httpx.get(f"{ui.url}/v1/sessions").json()["data"] == []
