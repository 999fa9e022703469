"""What one does with chats and their settings: find, pin, choose several, export, count, sign out."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from playwright.sync_api import expect

from tests.browser.conftest import Special, Visit
from tests.browser.test_refusals import new_key
from tests.browser.ui import Ui
from tests.support.processes import Replica
from tests.support.redis import RedisServer


def seeded(site: Replica, *titles: str) -> None:
    for title in titles:
        httpx.post(f"{site.url}/v1/sessions", json={"title": title}).raise_for_status()


def test_chats_are_found_by_their_titles_and_by_what_was_asked_in_them(visit: Visit, site: Replica) -> None:
    seeded(site, *(f"number {number}" for number in range(45)), "Füße", "something")
    ui = visit()
    expect(ui.chats).to_have_count(40)
    search = ui.page.get_by_role("searchbox", name="Search chats")
    search.fill("FUSS")
    expect(ui.page.get_by_text("No chat has that in its title.")).to_be_visible()
    search.fill("fuße")
    expect(ui.titles).to_have_text(["Füße"])
    search.fill("number 0")  # on a page of the list that was not read before
    expect(ui.titles).to_have_text(["number 0"])
    search.press("Escape")
    ui.ask("untold words\nin the second line: rhinoceros [[say=ok]]")
    search.fill("rhinoc")
    expect(ui.titles).to_have_text(["untold words"])


# The newest page of the list arrives 2 s later than the pages behind it; data-late counts those on the way.
LATE_NEWEST_PAGE = """
const real = fetch;
const on = document.documentElement.dataset;
on.late = 0;
window.fetch = async (url, options) => {
  const newest = /sessions\\?limit=\\d+$/.test(String(url));
  on.late = +on.late + newest;
  const response = await real(url, options);
  if (newest) setTimeout(() => (on.late -= 1), 2100);
  if (newest) await new Promise((resolve) => setTimeout(resolve, 2000));
  return response;
};
"""


def test_a_search_keeps_what_it_found_while_the_list_is_read_again(visit: Visit, site: Replica) -> None:
    seeded(site, *(f"number {number}" for number in range(45)))
    ui = visit()
    expect(ui.chats).to_have_count(40)
    ui.page.evaluate(LATE_NEWEST_PAGE)
    ui.ask("new [[say=ok]]")
    ui.page.get_by_role("searchbox", name="Search chats").fill("number 0")
    expect(ui.titles).to_have_text(["number 0"])
    expect(ui.page.locator("html")).to_have_attribute("data-late", "0")
    expect(ui.titles).to_have_text(["number 0"])


def test_a_pinned_chat_stays_on_top_and_after_a_reload(visit: Visit, site: Replica) -> None:
    seeded(site, "old", *(f"newer {number}" for number in range(45)))
    ui = visit()
    ui.page.get_by_role("button", name="Older chats").click()
    ui.option("old", "Pin")
    expect(ui.titles.first).to_have_text("old")
    ui.page.reload()
    expect(ui.titles.first).to_have_text("old")
    expect(ui.page.get_by_role("heading", name="Pinned")).to_be_visible()
    ui.option("old", "Unpin")
    expect(ui.titles.first).to_have_text("newer 44")


def test_several_chats_are_deleted_at_once(visit: Visit, site: Replica) -> None:
    seeded(site, "one", "two", "three")
    ui = visit()
    ui.option("two", "Choose several")
    ui.page.get_by_role("checkbox", name="Choose three").check()
    ui.page.get_by_role("button", name="Delete 2", exact=True).click()
    expect(ui.dialog).to_contain_text("Delete 2 chats?")
    ui.dialog.get_by_role("button", name="Delete").click()
    expect(ui.titles).to_have_text(["one"])
    expect(ui.page.get_by_role("checkbox")).to_have_count(0)
    left = httpx.get(f"{site.url}/v1/sessions").json()["data"]
    assert [session["title"] for session in left] == ["one"]


def test_a_chat_is_exported_as_markdown(ui: Ui) -> None:
    ui.ask("keep me [[say=**kept**]]")
    with ui.page.expect_download() as download:
        ui.option("keep me", "Export as Markdown")
    text = download.value.path().read_text()
    assert text.startswith("# keep me [[say=**kept**]]\n\n## You\n\nkeep me [[say=**kept**]]\n\n## Answer (")
    assert text.endswith("\n\n**kept**\n")


def test_temperature_and_effort_go_with_each_message_of_the_chat_and_may_be_those_of_new_ones(ui: Ui) -> None:
    ui.page.get_by_role("button", name="Settings of this chat").click()
    ui.dialog.get_by_role("spinbutton", name="Temperature").fill("0.3")
    ui.dialog.get_by_role("combobox", name="Effort in thinking").select_option("low")
    ui.dialog.get_by_role("checkbox", name="Begin new chats like this").check()
    ui.dialog.get_by_role("button", name="Save").click()
    ui.ask("[[say=ok]]")
    ui.page.reload()
    ui.shows("ok")
    ui.ask("[[say=again]]")
    ui.page.get_by_role("button", name="New chat").click()
    ui.ask("[[say=other]]")
    sent = [
        json.loads(request.post_data or "{}") for request in ui.requests if request.url.endswith("/turns")
    ]
    assert [body["params"] for body in sent] == [{"temperature": 0.3, "reasoning_effort": "low"}] * 3


def test_an_answer_says_by_what_model_and_at_what_cost_and_the_usage_adds_it_up(ui: Ui) -> None:
    ui.ask("[[tokens=50]]")
    facts = ui.answer.locator(".facts")
    for _ in range(2):
        expect(facts).to_contain_text("gpt-oss-120b · ")
        expect(facts).to_contain_text(" tokens")
        ui.page.reload()
    ui.page.get_by_role("button", name="Usage").click()
    expect(ui.dialog).to_contain_text("gpt-oss-120b")
    expect(ui.dialog).to_contain_text("Tokens a day")
    ui.page.keyboard.press("Escape")
    expect(ui.dialog).to_have_count(0)


def test_who_signs_out_leaves_nothing_behind(
    visit: Visit, special: Special, redis_server: RedisServer, tmp_path: Path
) -> None:
    ui = visit(special(auth="keys").url)
    ui.dialog.get_by_label("API key", exact=True).fill(new_key(redis_server, tmp_path))
    ui.dialog.get_by_role("checkbox").check()
    ui.dialog.get_by_role("button", name="Use this key").click()
    ui.ask("[[say=ok]]")
    ui.field.press_sequentially("a draft")
    ui.page.get_by_role("button", name="Sign out").click()
    expect(ui.dialog.get_by_role("heading", name="This service asks for a key")).to_be_visible()
    kept = (
        "() => Object.keys({...localStorage, ...sessionStorage}).filter((name) => name.startsWith('chat.'))"
    )
    assert ui.page.evaluate(kept) == []


def test_the_page_can_be_installed(ui: Ui) -> None:
    manifest = httpx.get(f"{ui.url}/ui/manifest.webmanifest").raise_for_status().json()
    link = ui.page.locator("link[rel=manifest]").get_attribute("href")
    assert link == "ui/manifest.webmanifest"
    for icon in manifest["icons"]:
        assert httpx.get(f"{ui.url}/ui/{icon['src']}").headers["content-type"] == icon["type"]
