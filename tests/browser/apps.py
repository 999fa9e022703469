"""What every app of docs/examples has to do in Chromium, whatever it is built with."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import redis
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_survival import owner_of_the_turn
from tests.double import Double, expected_text
from tests.support.processes import Replica
from tests.support.redis import free_port
from tests.support.waiting import eventually

# Each text of an element that tells of an error, also of one that is gone again.
_WATCHES_ALERTS: Final = """
window.alerts = [];
new MutationObserver(() => {
  const shown = [...document.querySelectorAll("[role=alert]")].map(({ textContent }) => textContent);
  alerts.push(...shown.filter(Boolean));
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


@contextmanager
def served(command: list[str], folder: Path, replica: Replica) -> Iterator[str]:
    """The address of an app that `command` serves; `{port}` in it is the port's place."""
    port = str(free_port())
    environment = {**os.environ, "CHAT_URL": replica.url, "NEXT_TELEMETRY_DISABLED": "1"}
    words = [word.replace("{port}", port) for word in command]
    with subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: _answers(url), within=60)
            yield url
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, follow_redirects=True).status_code == 200
    except httpx.TransportError:
        return False


class App:
    """One of the apps, opened in a browser profile of its own."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.page: Page = browser.new_context().new_page()
        self.troubles: list[str] = []
        self.page.add_init_script(_WATCHES_ALERTS)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.goto(url)
        self.answer = self.page.locator(".assistant")
        self.ready = self.page.get_by_role("button", name="Send")

    def send(self, text: str) -> None:
        # A page that the server has rendered is deaf until its script has run; what was typed before is lost.
        box = self.page.get_by_role("textbox", name="Message")

        def taken() -> bool:
            box.fill(text)
            return bool(self.ready.is_enabled())

        eventually(taken, within=20)
        self.ready.click()

    def ends_with(self, text: str, *, from_html: bool = False) -> None:
        """`from_html`: a server may have rendered it, and a browser reads CR LF in a page as LF."""
        expect(self.answer.last).to_have_text(text.strip(), timeout=30_000)
        expect(self.ready).to_be_visible()
        shown = self.answer.last.text_content() or ""
        assert shown == text or (from_html and shown == text.replace("\r\n", "\n"))

    def check(self) -> None:
        """Neither an error of the page nor one that it has shown."""
        assert (self.troubles, self.page.evaluate("alerts")) == ([], [])


def is_a_chat(browser: Browser, url: str, replica: Replica, store: redis.Redis, double: Double) -> None:
    """A killed worker is invisible, a reload finds the chat and its running answer, stop is for everybody."""
    app = App(browser, url)
    app.send("[[tokens=300 rate=50 vary]]")
    expect(app.answer).to_contain_text("#49")
    os.kill(owner_of_the_turn(store, replica), signal.SIGKILL)
    app.ends_with(expected_text(300, 1))
    assert len(list(double.calls)) == 2
    app.check()

    app.page.reload()
    app.ends_with(expected_text(300, 1), from_html=True)
    app.send("[[tokens=300 rate=50]]")
    expect(app.answer.last).to_contain_text("#33")
    app.check()
    assert _active(replica) != [None]
    app.page.reload()
    app.ends_with(expected_text(300))
    assert len(list(double.calls)) == 3

    app.send("[[tokens=3000 rate=50]]")
    expect(app.answer.last).to_contain_text("#16")
    app.page.get_by_role("button", name="Stop").click()
    expect(app.ready).to_be_visible()
    # A button that becomes another under the click would send once more.
    expect(app.page.locator(".user")).to_have_count(3)
    eventually(lambda: _active(replica) == [None], within=10)
    app.check()
    app.page.context.close()


def _active(replica: Replica) -> list[Any]:
    return [one["active_turn"] for one in httpx.get(f"{replica.url}/v1/sessions").json()["data"]]
