"""The list of chats, titles, models, system prompts and the address."""

from __future__ import annotations

import json

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.ui import Ui
from tests.double import Double
from tests.support.processes import Replica
from tests.support.waiting import eventually


def stored(ui: Ui) -> dict[str, object]:
    """The open session as the service has it."""
    session: dict[str, object] = httpx.get(f"{ui.url}/v1/sessions/{ui.address}").raise_for_status().json()
    return session


def test_a_chat_is_titled_by_its_first_message_and_the_newest_is_on_top(ui: Ui) -> None:
    ui.ask("Why is the sky blue? [[say=Rayleigh.]]")
    ui.page.get_by_role("button", name="New chat").click()
    ui.ask("Another matter\nwith a second line [[say=ok]]")
    expect(ui.titles).to_have_text(["Another matter", "Why is the sky blue? [[say=Rayleigh.]]"])
    expect(ui.page.get_by_role("heading", level=1)).to_have_text("Another matter")
    expect(ui.page).to_have_title("Another matter · Chat")
    assert stored(ui)["title"] == "Another matter"


def test_the_address_names_the_chat_and_back_goes_back(ui: Ui) -> None:
    ui.ask("first [[say=one]]")
    first = ui.address
    ui.page.get_by_role("button", name="New chat").click()
    assert ui.address == ""
    ui.ask("second [[say=two]]")
    ui.page.go_back()
    ui.page.go_back()
    ui.shows("one")
    assert ui.address == first
    expect(ui.chats.filter(has_text="first")).to_have_attribute("aria-current", "page")


def test_a_chat_is_renamed(ui: Ui) -> None:
    ui.ask("badly named [[say=ok]]")
    ui.option("badly named", "Rename")
    name = ui.dialog.get_by_role("textbox", name="Title")
    expect(name).to_have_value("badly named [[say=ok]]")
    name.fill("Well <b>named</b>")
    name.press("Enter")
    expect(ui.titles).to_have_text(["Well <b>named</b>"])
    assert stored(ui)["title"] == "Well <b>named</b>"
    ui.page.reload()
    expect(ui.titles).to_have_text(["Well <b>named</b>"])


def test_a_chat_is_exported_as_json(ui: Ui) -> None:
    ui.ask("keep me [[say=kept]]")
    with ui.page.expect_download() as download:
        ui.option("keep me", "Export as JSON")
    document = json.loads(download.value.path().read_text())
    assert download.value.suggested_filename == "keep-me-say-kept-.json"
    assert [message["content"] for message in document["messages"]] == ["keep me [[say=kept]]", "kept"]


def test_a_chat_is_deleted_after_a_question(ui: Ui) -> None:
    ui.ask("delete me [[say=ok]]")
    address = ui.address
    ui.option("delete me", "Delete")
    ui.dialog.get_by_role("button", name="Keep it").click()
    expect(ui.chats).to_have_count(1)
    ui.option("delete me", "Delete")
    ui.dialog.get_by_role("button", name="Delete").click()
    expect(ui.chats).to_have_count(0)
    expect(ui.page.get_by_role("heading", name="What would you like to know?")).to_be_visible()
    assert httpx.get(f"{ui.url}/v1/sessions/{address}").status_code == 404


def test_deleting_a_chat_stops_its_answer(ui: Ui, double: Double) -> None:
    ui.send("[[tokens=5000 rate=50]]")
    ui.shows("#16")
    ui.option("tokens=5000", "Delete")
    ui.dialog.get_by_role("button", name="Delete").click()
    expect(ui.chats).to_have_count(0)
    eventually(lambda: [call.end for call in double.calls] == ["client_closed"])


def test_another_chat_that_is_answering_says_so_until_it_has_ended(ui: Ui) -> None:
    ui.send("slow [[tokens=250 rate=30]]")
    ui.shows("#16")
    ui.page.get_by_role("button", name="New chat").click()
    running = ui.page.get_by_role("link", name="is answering")
    expect(running).to_have_count(1)
    expect(running).to_have_count(0)


def test_the_list_comes_in_pages(ui: Ui) -> None:
    for number in range(45):
        httpx.post(f"{ui.url}/v1/sessions", json={"title": f"chat {number}"}).raise_for_status()
    ui.page.reload()
    expect(ui.chats).to_have_count(40)
    ui.page.get_by_role("button", name="Older chats").click()
    expect(ui.chats).to_have_count(45)
    expect(ui.titles.last).to_have_text("chat 0")


def test_the_model_belongs_to_the_chat(ui: Ui, double: Double) -> None:
    choice = ui.page.get_by_role("combobox", name="Model")
    expect(choice).to_have_value("openai/gpt-oss-120b")
    choice.select_option("openai/gpt-oss-20b")
    ui.ask("[[say=small]]")
    assert [call.model for call in double.calls] == ["openai/gpt-oss-20b"]
    choice.select_option("qwen/qwen3.8-27b")
    ui.ask("[[say=other]]")
    assert [call.model for call in double.calls][-1] == "qwen/qwen3.8-27b"
    first = ui.address
    ui.page.get_by_role("button", name="New chat").click()
    expect(choice).to_have_value("qwen/qwen3.8-27b")  # what was chosen last
    choice.select_option("openai/gpt-oss-20b")
    ui.page.go_back()
    assert ui.address == first
    expect(choice).to_have_value("qwen/qwen3.8-27b")


def test_the_system_prompt_is_sent_from_the_first_message_on(ui: Ui) -> None:
    for prompt in ("Speak like a pirate.", "Speak plainly."):
        ui.page.get_by_role("button", name="Settings of this chat").click()
        ui.dialog.get_by_role("textbox", name="System prompt").fill(prompt)
        ui.dialog.get_by_role("button", name="Save").click()
        expect(ui.dialog).to_have_count(0)
        assert json.loads(ui.ask("[[echo]]"))[0] == {"role": "system", "content": prompt}
    assert stored(ui)["system_prompt"] == "Speak plainly."


def test_an_address_of_nothing_says_so_and_offers_a_new_chat(visit: Visit) -> None:
    ui = visit(path="/#/s_nowhere")
    expect(ui.page.get_by_role("alert")).to_contain_text("This chat is gone")
    assert ui.ask("[[say=anyway]]") == "anyway"


def test_the_example_prompts_are_answered_by_the_demo(visit: Visit, site: Replica) -> None:
    ui = visit(path="/ui")
    prompts = ui.page.locator("#prompts button")
    expect(prompts).to_have_count(4)
    for number in range(4):
        prompts.nth(number).click()
        expect(ui.field).to_be_focused()
        ui.field.press("Enter")
        ui.done()
        expect(ui.answer).to_contain_text("canned answer")
        ui.page.get_by_role("button", name="New chat").click()
