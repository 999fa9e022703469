"""Images of a question: picked, pasted, dropped; shown, kept, sent again; and models that take none."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Locator, Route, expect

from tests.browser.conftest import Special, Visit
from tests.browser.test_refusals import new_key
from tests.browser.ui import Ui
from tests.double import Double
from tests.support.pictures import data_url, png
from tests.support.redis import RedisServer

TAKES: Final = "qwen/qwen3.8-27b"
TAKES_NONE: Final = "openai/gpt-oss-120b"
RED: Final = {"name": "red.png", "mimeType": "image/png", "buffer": png(3, 2)}
#: gives the field or the page what a clipboard or a mouse brings
BRING: Final = """([type, name, parts]) => {
    const data = new DataTransfer();
    for (const [kind, body] of parts) {
        const bytes = () => Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
        if (kind === "text/plain") data.setData(kind, body);
        else data.items.add(new File([bytes()], name, { type: kind }));
    }
    const made = { bubbles: true, cancelable: true };
    const event = type === "paste"
        ? new ClipboardEvent(type, { ...made, clipboardData: data })
        : new DragEvent(type, { ...made, dataTransfer: data });
    return document.querySelector("#field").dispatchEvent(event);
}"""


def bring(ui: Ui, how: str, *parts: tuple[str, str], name: str = "red.png") -> bool:
    """True where the page left it to the browser."""
    return bool(ui.page.evaluate(BRING, [how, name, [list(part) for part in parts]]))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def attached(ui: Ui) -> Locator:
    return ui.page.get_by_role("list", name="Images to be sent").locator("img")


def pick(ui: Ui, *files: Any) -> None:
    with ui.page.expect_file_chooser() as chooser:
        ui.page.get_by_role("button", name="Add images").click()
    chooser.value.set_files(list(files))


def choose(ui: Ui, model: str) -> None:
    ui.page.get_by_role("combobox", name="Model").select_option(model)


def parts(ui: Ui, place: int = 0) -> list[dict[str, Any]]:
    """Those of a message as the service has them."""
    found = httpx.get(f"{ui.url}/v1/sessions/{ui.address}/messages").raise_for_status().json()["data"]
    whole: list[dict[str, Any]] = found[place].get("parts", [])
    return whole


def shown(image: Locator) -> tuple[int, int]:
    expect(image).to_have_attribute("src", re.compile("^data:image/"))  # it is read when it comes near
    image.evaluate("image => image.decode()")
    return image.evaluate("image => image.naturalWidth"), image.evaluate("image => image.naturalHeight")


def test_a_picked_image_goes_with_the_question_and_is_shown_in_it_now_and_later(ui: Ui) -> None:
    choose(ui, TAKES)
    pick(ui, RED)
    expect(attached(ui)).to_have_count(1)
    assert ui.ask("What is this? [[say=red]]") == "red"
    expect(attached(ui)).to_have_count(0)
    image = ui.questions.first.get_by_role("img", name="Image 1")
    assert shown(image) == (3, 2)
    assert [part["type"] for part in parts(ui)] == ["text", "image"]
    ui.page.reload()
    expect(image).to_have_attribute("src", data_url(png(3, 2)))
    assert shown(image) == (3, 2)
    ui.questions.first.get_by_role("button", name="Image 1").click()
    expect(ui.dialog.get_by_role("img", name="Image 1")).to_be_visible()
    ui.dialog.get_by_role("button", name="Close").click()
    expect(ui.dialog).to_have_count(0)


def test_an_image_alone_is_a_question(ui: Ui) -> None:
    choose(ui, TAKES)
    expect(ui.page.get_by_role("button", name="Send")).to_be_disabled()
    pick(ui, RED)
    ui.page.get_by_role("button", name="Send").click()
    ui.done()
    assert [part["type"] for part in parts(ui)] == ["image"]
    expect(ui.titles).to_have_text(["Images"])


def test_an_image_can_be_pasted_and_dropped_and_taken_away(ui: Ui) -> None:
    choose(ui, TAKES)
    assert not bring(ui, "paste", ("image/png", encoded(png(3, 2))))
    expect(attached(ui)).to_have_count(1)
    assert not bring(ui, "dragover", ("image/png", ""))
    assert not bring(ui, "drop", ("image/png", encoded(png(5, 4))))
    expect(attached(ui)).to_have_count(2)
    ui.page.get_by_role("button", name="Remove image 1").click()
    expect(attached(ui)).to_have_count(1)
    assert shown(attached(ui)) == (5, 4)


def test_a_pasted_text_that_brings_a_picture_of_itself_is_a_text(ui: Ui) -> None:
    assert bring(ui, "paste", ("text/plain", "a\tb"), ("image/png", encoded(png(3, 2))))
    assert bring(ui, "dragover", ("text/plain", "a"))
    expect(attached(ui)).to_have_count(0)


def test_a_model_that_takes_no_images_is_named_with_one_that_does(ui: Ui) -> None:
    choose(ui, TAKES_NONE)
    pick(ui, RED)
    expect(ui.page.locator("#offer")).to_contain_text("gpt-oss-120b does not take images.")
    ui.page.get_by_role("button", name="Use qwen3.8-27b").click()
    expect(ui.page.locator("#offer")).to_be_hidden()
    expect(ui.page.get_by_role("combobox", name="Model")).to_have_value(TAKES)
    assert ui.ask("[[say=red]]") == "red"
    expect(ui.answer.locator(".facts")).to_contain_text("qwen3.8-27b")


def test_what_the_model_refused_comes_back_with_its_image(ui: Ui) -> None:
    choose(ui, TAKES_NONE)
    pick(ui, RED)
    ui.send("What is this? [[say=red]]")
    expect(ui.field).to_have_value("What is this? [[say=red]]")
    expect(attached(ui)).to_have_count(1)
    expect(ui.page.get_by_role("alert").last).to_contain_text("image")
    ui.page.get_by_role("button", name="Use qwen3.8-27b").click()
    ui.field.press("Enter")
    ui.shows("red")
    ui.done()
    expect(ui.questions).to_have_count(1)


def test_an_edited_question_keeps_its_images(ui: Ui) -> None:
    choose(ui, TAKES)
    pick(ui, RED)
    ui.ask("one [[say=one]]")
    ref = parts(ui)[1]["ref"]
    for reload, words in ((False, "two"), (True, "three")):
        if reload:
            ui.page.reload()
        ui.questions.first.hover()
        ui.page.get_by_role("button", name="Edit this message").click()
        ui.page.get_by_role("textbox", name="Your message").fill(f"{words} [[say={words}]]")
        ui.page.get_by_role("textbox", name="Your message").press("Enter")
        ui.shows(words)
        ui.done()
        assert parts(ui)[1]["ref"] == ref
        assert shown(ui.questions.first.locator("img")) == (3, 2)


def test_what_is_no_image_is_not_taken(ui: Ui) -> None:
    pick(ui, {"name": "notes.png", "mimeType": "image/png", "buffer": b"notes"}, RED)
    expect(ui.page.get_by_role("alert").last).to_contain_text("“notes.png” can not be sent")
    expect(attached(ui)).to_have_count(1)


def test_a_large_image_is_made_smaller_before_it_is_sent(ui: Ui) -> None:
    choose(ui, TAKES)
    pick(ui, {"name": "large.png", "mimeType": "image/png", "buffer": png(4096, 1024, extra=6_000_000)})
    expect(attached(ui)).to_have_count(1)
    ui.ask("[[say=seen]]")
    assert shown(ui.questions.first.locator("img")) == (2048, 512)
    assert parts(ui)[-1]["media_type"] == "image/webp"


def test_images_stay_with_the_chat_that_they_were_meant_for(ui: Ui) -> None:
    choose(ui, TAKES)
    ui.ask("[[say=one]]")
    pick(ui, RED)
    expect(attached(ui)).to_have_count(1)
    ui.page.get_by_role("button", name="New chat").click()
    expect(attached(ui)).to_have_count(0)
    ui.chats.first.click()
    expect(attached(ui)).to_have_count(1)


def test_the_text_of_a_question_whose_images_a_browser_does_not_keep_comes_back_as_a_draft(ui: Ui) -> None:
    choose(ui, TAKES)
    ui.page.route("**/v1/sessions", lambda route: route.abort())
    pick(ui, {"name": "noise.png", "mimeType": "image/png", "buffer": png(3, 2, extra=20_000)})
    expect(attached(ui)).to_have_count(1)
    ui.page.evaluate("""() => {
        const real = Storage.prototype.setItem;
        Storage.prototype.setItem = function (name, value) {
            if (value.length > 10_000) throw new DOMException("full", "QuotaExceededError");
            real.call(this, name, value);
        };
    }""")
    with ui.page.expect_event("requestfailed"):
        ui.send("What is this?")
    ui.page.unroute("**/v1/sessions")
    ui.page.reload()
    expect(ui.field).to_have_value("What is this?")
    assert ui.questions.count() == 0


def test_images_that_another_client_named_by_an_address_are_links(ui: Ui, double: Double) -> None:
    ui.ask("[[say=one]]")
    image = {"type": "image", "url": "https://pictures.example/red.png"}
    body = {"content": [{"type": "text", "text": "[[say=two]]"}, image], "model": TAKES}
    httpx.post(f"{ui.url}/v1/sessions/{ui.address}/turns", json=body).raise_for_status()
    ui.shows("two")
    link = ui.questions.last.get_by_role("link")
    expect(link).to_have_attribute("href", "https://pictures.example/red.png")
    expect(ui.questions.last.locator("img")).to_have_count(0)


def test_an_image_whose_question_is_read_again_before_it_is_drawn_is_drawn(ui: Ui) -> None:
    held: list[Route] = []
    ui.page.route("**/pictures.js", lambda route: held.append(route))
    ui.ask("[[say=one]]")
    image = {"type": "image_url", "image_url": {"url": data_url(png(3, 2))}}
    for words, more in (("two", [image]), ("three", [])):
        body = {"content": [{"type": "text", "text": f"[[say={words}]]"}, *more], "model": TAKES}
        httpx.post(f"{ui.url}/v1/sessions/{ui.address}/turns", json=body).raise_for_status()
        ui.shows(words)
        ui.done()
    held[0].continue_()
    image_shown = ui.questions.nth(1).get_by_role("img", name="Image 1")
    expect(image_shown).to_have_attribute("src", data_url(png(3, 2)))


@pytest.mark.parametrize("width", [360, 1280])
def test_an_image_is_shown_to_whom_it_belongs_within_the_width(
    visit: Visit, special: Special, redis_server: RedisServer, tmp_path: Any, width: int
) -> None:
    site = special(auth="keys")
    key = new_key(redis_server, tmp_path)
    headers = {"Authorization": f"Bearer {key}"}
    image = {"type": "image_url", "image_url": {"url": data_url(png(1600, 300))}}
    body = {"content": [{"type": "text", "text": "[[say=wide]]"}, image], "model": TAKES}
    httpx.post(f"{site.url}/v1/sessions/s_wide/turns", json=body, headers=headers).raise_for_status()
    ui = visit(site.url, path="/#/s_wide", viewport={"width": width, "height": 700})
    ui.dialog.get_by_label("API key", exact=True).fill(key)
    ui.dialog.get_by_role("button", name="Use this key").click()
    ui.shows("wide")
    image_shown = ui.questions.first.get_by_role("img", name="Image 1")
    expect(image_shown).to_have_attribute("src", data_url(png(1600, 300)))
    assert ui.page.evaluate("document.querySelector('#scroll').scrollWidth") <= width
