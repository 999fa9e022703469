"""The chat page as a person uses it, for tests: type, read, click; and what the browser noticed.

Everything is found by what people see or hear (roles, names, text) where that is unambiguous.
Nothing in here knows how the page is made beyond its markup.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

# Generous, for a machine that does much else at the same time; nothing waits when all is well.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


def saying(text: str) -> str:
    """The message that makes the double say exactly this."""
    return "[[say=" + json.dumps(text).replace("]]", "]\\u005d") + "]]"


class Ui:
    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.troubles: list[str] = []
        self.requests: list[Request] = []
        self.others: set[str] = set()  # hosts beside the page's own that it may ask
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("console", self._console)
        page.on("request", lambda request: self.requests.append(request))

    def _console(self, message: ConsoleMessage) -> None:
        # An answer that is no 2xx is logged by the browser itself and may be what a test is about.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.troubles.append(f"{message.type}: {message.text}")

    def check(self) -> None:
        """No error, no CSP violation, no request to anywhere else."""
        assert self.troubles == []
        home = urlsplit(self.url).netloc
        assert {urlsplit(request.url).netloc for request in self.requests} - {home, "", *self.others} == set()

    def open(self, path: str = "/") -> Ui:
        self.page.goto(self.url + path)
        return self

    # Writing

    @property
    def field(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message")

    def send(self, text: str) -> None:
        self.field.fill(text)
        if self.page.evaluate("matchMedia('(hover: none) and (pointer: coarse)').matches"):
            self.page.get_by_role("button", name="Send").click()  # Enter makes a line there
        else:
            self.field.press("Enter")

    def ask(self, text: str) -> str:
        """Send, and the exact text of the whole answer."""
        self.send(text)
        self.done()
        return self.copied()

    # Reading

    @property
    def questions(self) -> Locator:
        return self.page.get_by_role("article", name="You")

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article", name="Answer")

    @property
    def answer(self) -> Locator:
        return self.answers.last

    def shows(self, words: str) -> None:
        """Wait until the last answer shows these words."""
        expect(self.answer).to_contain_text(words)

    def done(self) -> None:
        """Wait for the end of the answer."""
        expect(self.page.locator("#send")).to_have_accessible_name("Send", timeout=PATIENCE_MS)
        expect(self.answer).not_to_have_attribute("aria-busy", "true")

    def copied(self) -> str:
        """The exact text of the last answer, as its copy button gives it."""
        self.page.evaluate("navigator.clipboard.writeText('')")
        self.answer.hover()
        self.answer.get_by_role("button", name="Copy this answer").click()
        self.page.wait_for_function("async () => (await navigator.clipboard.readText()) !== ''")
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    @property
    def address(self) -> str:
        """The id of the open session, '' for a new one."""
        return urlsplit(self.page.url).fragment.removeprefix("/")

    # The list of chats

    @property
    def chats(self) -> Locator:
        return self.page.get_by_role("navigation", name="Chats").get_by_role("link")

    @property
    def titles(self) -> Locator:
        return self.page.locator("#sessions .name")

    def option(self, chat: str, action: str) -> None:
        item = self.page.get_by_role("listitem").filter(has=self.page.get_by_role("link", name=chat))
        item.hover()
        item.get_by_role("button").click()
        self.page.get_by_role("button", name=action, exact=True).click()

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")
