"""What a page sees once in a year: lost logs, lost cursors, proxies that answer for the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route, expect

from tests.browser.conftest import Visit
from tests.browser.ui import Ui
from tests.double import Double, expected_text
from tests.support.line import Line
from tests.support.processes import Replica


def problem(status: int, code: str, **headers: str) -> dict[str, Any]:
    body = {"type": f"urn:chat:error:{code}", "status": status, "code": code, "detail": f"It is {code}."}
    return {
        "status": status,
        "json": body,
        "headers": {"content-type": "application/problem+json", **headers},
    }


def first(times: int, answer: dict[str, Any]) -> Callable[[Route], None]:
    """Answer in the service's place, this many times."""
    left = times

    def handle(route: Route) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            route.fulfill(**answer)
        else:
            route.continue_()

    return handle


def interrupted(line: Line, ui: Ui, pattern: str, handler: Callable[[Route], None], message: str) -> None:
    """Cut the line in mid-answer, with somebody else in the service's place afterwards."""
    ui.send(message)
    ui.shows("#33")
    ui.page.route(pattern, handler)
    line.cut()
    expect(ui.answer).to_contain_text("Reconnecting")
    line.mend()


def test_events_that_are_no_longer_kept_leave_the_answer_as_the_turn_has_it(
    visit: Visit, site: Replica
) -> None:
    with Line(site.port) as line:
        ui = visit(line.url)
        gone = first(99, problem(410, "events_expired"))
        interrupted(line, ui, "**/events", gone, "[[tokens=100 rate=20]]")
        ui.done()
        assert ui.copied() == expected_text(100)


def test_a_cursor_that_the_store_has_lost_starts_the_answer_over(visit: Visit, site: Replica) -> None:
    with Line(site.port) as line:
        ui = visit(line.url)
        ahead = first(1, problem(409, "cursor_ahead"))
        interrupted(line, ui, "**/events", ahead, "[[tokens=200 rate=30]]")
        ui.done()
        assert ui.copied() == expected_text(200)


def test_a_proxy_that_answers_for_the_service_is_waited_out(ui: Ui, double: Double) -> None:
    ui.page.route("**/turns", first(2, {"status": 502, "body": "<h1>Bad Gateway</h1>"}))
    ui.send("[[tokens=30]]")
    ui.shows("(0)")
    ui.done()
    assert ui.copied() == expected_text(30)
    assert len(list(double.calls)) == 1


def test_a_service_that_restarts_takes_the_message_when_it_is_back(ui: Ui, double: Double) -> None:
    ui.page.route("**/turns", first(2, problem(503, "draining", **{"Retry-After": "1"})))
    ui.send("[[tokens=30]]")
    expect(ui.answer).to_contain_text("The service is restarting. Trying again in 1 s.")
    ui.shows("(0)")
    ui.done()
    assert ui.copied() == expected_text(30)
    assert len(list(double.calls)) == 1


def test_a_wait_of_hours_is_told_and_not_waited_for(ui: Ui) -> None:
    ui.page.route("**/turns", first(1, problem(429, "budget_exhausted", **{"Retry-After": "15000"})))
    ui.send("too much")
    alert = ui.page.get_by_role("alert").last
    expect(alert).to_contain_text("Your token budget is used up for now. Try again in 4 h 10 min.")
    expect(ui.field).to_have_value("too much")


def test_now_does_not_wait_for_the_end_of_the_countdown(ui: Ui) -> None:
    ui.page.route("**/turns", first(1, problem(429, "rate_limited", **{"Retry-After": "60"})))
    ui.send("[[say=at once]]")
    ui.answer.get_by_role("button", name="Try now").click()
    ui.shows("at once")


def test_a_list_that_cannot_be_read_says_so_and_the_chat_goes_on(visit: Visit) -> None:
    ui = visit(path="/ui")
    ui.page.route("**/v1/sessions?*", lambda route: route.fulfill(**problem(503, "store_unavailable")))
    ui.page.reload()
    alert = ui.page.get_by_role("alert").last
    expect(alert).to_contain_text("The list of chats could not be read.")
    expect(alert).to_contain_text("cannot reach its memory")
    assert ui.ask("[[say=still here]]") == "still here"
