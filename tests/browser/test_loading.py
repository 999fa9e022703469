"""What has not been loaded, or is gone: the page says so, waits, and writes over nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import APIResponse, Route, expect

from tests.browser.conftest import Special, Visit
from tests.browser.test_edges import problem
from tests.browser.test_refusals import new_key
from tests.browser.ui import Ui
from tests.support.redis import RedisServer
from tests.support.waiting import eventually


def silent(route: Route) -> None:
    route.fulfill(**problem(503, "store_unavailable"))


def stored(ui: Ui, address: str) -> dict[str, Any]:
    session: dict[str, Any] = httpx.get(f"{ui.url}/v1/sessions/{address}").raise_for_status().json()
    return session


def test_a_chat_that_could_not_be_loaded_says_so_comes_back_by_itself_and_is_not_written_over(ui: Ui) -> None:
    ui.ask("the first question [[say=one]]")
    ui.ask("the second [[say=two]]")
    address = ui.address
    before = stored(ui, address)
    pattern = f"**/v1/sessions/{address}**"
    ui.page.route(pattern, silent)
    ui.page.reload()
    state = ui.page.locator("#state")
    expect(state).to_contain_text(
        "This chat could not be loaded. The service cannot reach its memory just now."
    )
    ui.send("a third matter [[say=three]]")
    expect(ui.field).to_have_value("a third matter [[say=three]]")
    expect(ui.page.get_by_role("alert").last).to_contain_text("not loaded yet")
    expect(ui.page.get_by_role("combobox", name="Model")).to_be_disabled()
    expect(ui.page.get_by_role("button", name="Settings of this chat")).to_be_disabled()
    ui.page.unroute(pattern)
    expect(ui.questions).to_have_count(2)
    expect(state).to_be_hidden()
    assert stored(ui, address) == before
    ui.field.press("Enter")
    expect(ui.questions).to_have_count(3)
    ui.shows("three")
    ui.done()
    assert stored(ui, address)["title"] == before["title"]


def test_a_chat_that_could_not_be_loaded_can_be_tried_again_by_hand(ui: Ui) -> None:
    ui.ask("[[say=one]]")
    ui.page.clock.install()  # its time stands still: nothing happens by itself
    ui.page.route("**/messages?*", lambda route: route.fulfill(**problem(404, "not_found")))
    ui.page.reload()
    again = ui.page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    ui.page.unroute("**/messages?*")
    again.click()
    ui.shows("one")
    expect(again).to_be_hidden()


def test_a_message_written_while_a_chat_is_still_loading_waits_in_the_field(ui: Ui) -> None:
    ui.ask("well named [[say=one]]")
    address = ui.address
    held: list[Route] = []
    ui.page.route(f"**/v1/sessions/{address}", lambda route: held.append(route))
    ui.page.reload()
    ui.send("early [[say=two]]")
    expect(ui.field).to_have_value("early [[say=two]]")
    held[0].continue_()
    ui.shows("one")
    ui.field.press("Enter")
    ui.shows("two")
    assert stored(ui, address)["title"] == "well named [[say=one]]"


def test_what_is_said_about_the_line_goes_with_its_cause(ui: Ui) -> None:
    notice = ui.page.locator("#notice")
    ui.ask("[[say=one]]")
    ui.page.context.set_offline(True)
    ui.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(notice).to_contain_text("The list of chats could not be read. You are offline.")
    ui.page.context.set_offline(False)
    expect(notice).to_be_hidden()


def test_what_is_said_about_the_store_goes_when_it_is_back(visit: Visit) -> None:
    ui = visit(path="/ui")
    for pattern in ("**/v1/sessions?*", "**/v1/models"):
        ui.page.route(pattern, silent)
    ui.page.reload()
    notice = ui.page.locator("#notice")
    expect(notice).to_contain_text("could not be read. The service cannot reach its memory just now.")
    ui.page.unroute_all()
    expect(notice).to_be_hidden()
    expect(ui.page.get_by_role("combobox", name="Model")).to_have_value("openai/gpt-oss-120b")


def test_models_chats_and_the_open_one_are_loaded_once_a_key_is_entered(
    visit: Visit, special: Special, redis_server: RedisServer, tmp_path: Path
) -> None:
    site = special(auth="keys")
    key = new_key(redis_server, tmp_path)
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}) as client:
        client.post("/v1/sessions/s_mine/turns", json={"content": "[[say=mine]]"}).raise_for_status()
        client.patch("/v1/sessions/s_mine", json={"title": "my chat"}).raise_for_status()
    ui = visit(site.url, path="/#/s_mine")
    ui.dialog.get_by_role("button", name="Not now").click()
    expect(ui.page.locator("#state")).to_contain_text("needs an API key")
    expect(ui.dialog).to_have_count(0)
    ui.page.get_by_role("button", name="API key").click()
    ui.dialog.get_by_label("API key", exact=True).fill(key)
    ui.dialog.get_by_role("button", name="Use this key").click()
    ui.shows("mine")
    expect(ui.titles).to_have_text(["my chat"])
    expect(ui.page.get_by_role("combobox", name="Model")).to_have_value("openai/gpt-oss-120b")
    expect(ui.page.locator("#notice")).to_be_hidden()


def test_a_chat_that_was_deleted_elsewhere_is_not_made_anew_by_its_next_message(ui: Ui) -> None:
    ui.page.route("**/v1/sessions/*/events?*", lambda route: route.abort())  # a page that hears of nothing
    ui.ask("[[say=one]]")
    address = ui.address
    httpx.delete(f"{ui.url}/v1/sessions/{address}").raise_for_status()
    ui.send("and then?")
    state = ui.page.locator("#state")
    expect(state).to_contain_text("This chat is gone: it was deleted, or its time ran out.")
    assert httpx.get(f"{ui.url}/v1/sessions/{address}").status_code == 404
    assert [bubble.text_content() for bubble in ui.page.locator(".bubble").all()] == ["[[say=one]]"]
    expect(ui.field).to_have_value("and then?")
    expect(ui.titles).to_have_count(0)
    ui.field.press("Enter")
    expect(ui.page.get_by_role("alert").last).to_contain_text("This chat is gone")
    assert httpx.get(f"{ui.url}/v1/sessions/{address}").status_code == 404
    ui.page.get_by_role("button", name="Start a new chat").click()
    expect(ui.field).to_have_value("and then?")
    assert ui.address == ""


def test_a_chat_that_is_deleted_elsewhere_says_so_at_once(ui: Ui) -> None:
    ui.ask("[[say=one]]")
    ui.field.press_sequentially("half a thou")
    httpx.delete(f"{ui.url}/v1/sessions/{ui.address}").raise_for_status()
    expect(ui.page.locator("#state")).to_contain_text("This chat is gone")
    expect(ui.page.get_by_role("combobox", name="Model")).to_be_disabled()
    ui.shows("one")
    expect(ui.field).to_have_value("half a thou")


def test_a_chat_of_which_nothing_is_heard_says_so_and_comes_back_by_itself(ui: Ui) -> None:
    """The service has taken the question and says nothing, as one that is stopped, or a line that is dead."""
    ui.ask("[[say=one]]")
    held: list[Route] = []
    session = f"**/v1/sessions/{ui.address}"
    ui.page.route(session, lambda route: held.append(route))
    ui.page.clock.install()
    ui.page.reload()
    state = ui.page.locator("#state")
    expect(state).to_contain_text("Loading")
    while not held:
        ui.page.wait_for_timeout(50)
    ui.page.clock.fast_forward(21_000)
    expect(state).to_contain_text("The service cannot be reached.")
    expect(state.get_by_role("button", name="Try again")).to_be_visible()
    ui.page.unroute(session)
    ui.page.clock.fast_forward(5_000)
    ui.shows("one")
    expect(state).to_be_hidden()


def test_a_chat_that_is_deleted_elsewhere_while_it_answers_says_so(ui: Ui) -> None:
    ui.send("[[tokens=400 rate=20]]")
    ui.shows("#3")
    address = ui.address
    httpx.delete(f"{ui.url}/v1/sessions/{address}").raise_for_status()
    expect(ui.page.locator("#state")).to_contain_text("This chat is gone")
    ui.shows("#3")
    expect(ui.page.get_by_role("button", name="Stop the answer")).to_have_count(0)
    expect(ui.titles).to_have_count(0)
    ui.page.reload()
    expect(ui.page.get_by_role("alert").last).to_contain_text("This chat is gone")
    assert httpx.get(f"{ui.url}/v1/sessions/{address}").status_code == 404


def test_a_list_that_was_read_before_a_chat_went_does_not_bring_it_back(ui: Ui) -> None:
    ui.ask("[[say=Hello.]]")
    held: list[tuple[Route, APIResponse]] = []
    ui.page.route("**/v1/sessions?*", lambda route: held.append((route, route.fetch())), times=1)
    ui.page.evaluate("() => new BroadcastChannel('chat.list').postMessage(null)")  # as another tab does
    eventually(lambda: ui.page.evaluate("() => true") and held)
    httpx.delete(f"{ui.url}/v1/sessions/{ui.address}").raise_for_status()
    expect(ui.page.locator("#state")).to_contain_text("This chat is gone")
    route, response = held[0]
    route.fulfill(response=response)
    ui.page.evaluate("async () => { for (let i = 0; i < 3; i++) await (await fetch('/livez')).text(); }")
    assert ui.titles.count() == 0
