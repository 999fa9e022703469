"""Tools that an answer has called elsewhere: shown folded, live and later, with what came of them."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.ui import Ui

TOOLS: Final = {"tools": [{"type": "function", "function": {"name": "weather"}}]}


def turn(url: str, session: str, **body: Any) -> None:
    answer = httpx.post(f"{url}/v1/sessions/{session}/turns", json={**TOOLS, **body}, timeout=30)
    answer.raise_for_status()


def call_of(url: str, session: str) -> str:
    message = httpx.get(f"{url}/v1/sessions/{session}/messages").raise_for_status().json()["data"][-1]
    return str([part["id"] for part in message["parts"] if part["type"] == "tool_call"][-1])


@pytest.mark.parametrize("when", ["live", "later"])
def test_a_call_and_its_result_are_shown_folded(visit: Visit, ui: Ui, when: str) -> None:
    session = f"s_tools_{when}"
    httpx.post(f"{ui.url}/v1/sessions", json={"id": session}).raise_for_status()
    watching = visit(path=f"/#/{session}") if when == "live" else None
    turn(ui.url, session, content='[[tool=weather args={"location":"Ulm"} say=dry]] Does it rain?')
    watching = watching or visit(path=f"/#/{session}")
    folded = watching.answer.get_by_role("group").filter(has_text="Tool weather")
    expect(folded).to_contain_text("Tool weather: no result yet")
    expect(watching.answer).not_to_contain_text("The answer has no text")
    result = {"tool_call_id": call_of(ui.url, session), "content": {"rain": "12 mm"}}
    turn(ui.url, session, tool_results=[result])
    expect(folded.locator("summary")).to_have_text("Tool weather")
    expect(watching.answers).to_have_count(1)
    given, came = folded.locator("pre").nth(0), folded.locator("pre").nth(1)
    expect(given).to_be_hidden()
    folded.locator("summary").click()
    expect(given).to_have_text('{\n  "location": "Ulm"\n}')
    expect(came).to_have_text('{\n  "rain": "12 mm"\n}')


def test_a_tool_that_failed_says_so(visit: Visit, ui: Ui) -> None:
    turn(ui.url, "s_failed_tool", content="[[tool=weather]] Does it rain?")
    result = {
        "tool_call_id": call_of(ui.url, "s_failed_tool"),
        "content": "<b>no network</b>",
        "is_error": True,
    }
    turn(ui.url, "s_failed_tool", tool_results=[result])
    other = visit(path="/#/s_failed_tool")
    folded = other.answer.get_by_role("group").filter(has_text="Tool weather")
    expect(folded.locator("summary")).to_have_text("Tool weather: failed")
    folded.locator("summary").click()
    expect(folded.locator("pre").nth(1)).to_have_text("<b>no network</b>")
    expect(folded.locator("pre b")).to_have_count(0)
