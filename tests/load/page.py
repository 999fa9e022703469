"""How long the page is busy at a time with 43 kB, one answer or a chat: `python -m tests.load.page`.

Prints the table of docs/performance.md: the longest task of the browser's main thread, by the time that the
processor has worked at it (a trace of Chromium's, so that what else the machine does counts little), and how
many took more than 50 ms; with the processor as it is and slowed down to a quarter. Of a chat it is what
coming from another one takes, in the place of arriving. Starts a service of its own with the demo model.
`--only WORD` measures what has the word in its name.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Final

import httpx
from playwright.sync_api import Browser, sync_playwright

from tests.browser.ui import Ui, saying
from tests.support.needed import program
from tests.support.processes import Replica

LENGTH: Final = 43_000
RATE: Final = 3_000  # tokens a second: faster than a model of today
_ENDED: Final = """async () => {
    const shown = () => document.querySelector("#messages");
    for (let last = -1, same = 0; same < 5 || !last; ) {
        await new Promise((resolve) => setTimeout(resolve, 300));
        const ended = shown().querySelector(".answer:last-child:not([aria-busy])");
        const length = ended ? shown().textContent.length : 0;
        same = length === last ? same + 1 : 0;
        last = length;
    }
}"""
_LONG_MS: Final = 50


def filled(unit: str, head: str = "") -> str:
    """Units with rising numbers, of this length together."""
    text, number = head, 0
    while len(text) < LENGTH:
        text += unit.replace("{}", str(number))
        number += 1
    return text.rstrip()


KINDS: Final = {
    "one list": filled(
        "- item **{}** of `a long` list, with *words* that are not rare and a [link](https://a.example/)\n"
    ),
    "one table": filled("| {} | some *words* | and `more` of them |\n", "| a | b | c |\n|---|---|---|\n"),
    "one paragraph": filled("The {}th line of a paragraph, which has *some* words in it and goes on.\n"),
    "one block of Python": filled(
        "def function_{}(a: int, b: str = 'x') -> int:\n    return a * {}  # a line\n\n", "```python\n"
    )
    + "\n```",
    "sections of all kinds": filled(
        "## Section {}\n\nSome **words** of it, `code` and a [link](https://a.example/).\n\n- one\n- two\n\n"
        "```js\nconst a{} = () => b;\n```\n\n| a | b |\n|---|---|\n| 1 | {} |\n\n"
    ),
    "formulas": filled(
        "The sum $\\sum_{i=0}^{{}} x_i^2$ of section {}.\n\n\\[ \\int_0^{{}} e^{-x}\\,dx \\]\n\n"
    ),
}

CHAT: Final = "a chat of 62 messages"


def seeded(url: str, name: str) -> str:
    """A chat of 60 messages with something of everything, 43 kB."""
    sections = KINDS["sections of all kinds"].split("\n\n## ")
    size = len(sections) // 30
    history = []
    for number in range(30):
        said = "\n\n## ".join(sections[number * size : (number + 1) * size])
        history += [{"role": "user", "content": f"And {number}?"}, {"role": "assistant", "content": said}]
    body = {"user_query": f"[[say={name}]]", "session_id": name, "history": history}
    httpx.post(f"{url}/chat-with-history", json=body, timeout=60).raise_for_status()
    return name


def measure_chat(browser: Browser, url: str, slower: int) -> tuple[list[float], list[float]]:
    """How long each task took (ms): coming from another chat as long as this, and after a reload."""
    one, other = (seeded(url, f"s_{name}_{slower}") for name in ("one", "other"))
    page = browser.new_context().new_page()
    ui = Ui(page, url).open(f"/#/{one}")
    ended(ui)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    page.evaluate("name => { location.hash = `#/${name}`; }", other)
    ended(ui)
    switching = tasks(browser.stop_tracing())
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    page.reload()
    ended(ui)
    showing = tasks(browser.stop_tracing())
    page.context.close()
    return switching, showing


def measure(browser: Browser, url: str, text: str, slower: int) -> tuple[list[float], list[float]]:
    """How long each task took (ms): while the answer arrived, and while a reload showed it."""
    page = browser.new_context().new_page()
    ui = Ui(page, url).open()
    ui.send("[[say=first]]")  # what draws answers is loaded
    ended(ui)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    ui.send(f"[[rate={RATE}]]" + saying(text))
    ended(ui)
    arriving = tasks(browser.stop_tracing())
    browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    page.reload()
    ended(ui)
    showing = tasks(browser.stop_tracing())
    page.context.close()
    return arriving, showing


def tasks(trace: bytes) -> list[float]:
    """Of the main thread of pages."""
    events = json.loads(trace)["traceEvents"]
    pages = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    return [
        event["tdur"] / 1_000
        for event in events
        if event["name"] == "ThreadControllerImpl::RunTask"
        and (event["pid"], event["tid"]) in pages
        and "tdur" in event
    ]


def ended(ui: Ui) -> None:
    """All of the answers is there, and drawn. Looks rarely: what looks by roles is a long task itself."""
    ui.page.evaluate(_ENDED)


def said(found: list[float]) -> str:
    return f"{max(found):.0f} ({sum(took > _LONG_MS for took in found)})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="measure what has this in its name")
    only = parser.parse_args().only
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("| 43 kB of | arriving | reloaded | arriving, CPU ÷ 4 | reloaded, CPU ÷ 4 |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Replica(Path(folder), "run")
        path = program("chromium", "chromium-browser", "google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            for name, text in KINDS.items():
                if only not in name:
                    continue
                found = [*measure(browser, site.url, text, 1), *measure(browser, site.url, text, 4)]
                print(f"| {name} | {' | '.join(map(said, found))} |", flush=True)
            if only in CHAT:
                found = [*measure_chat(browser, site.url, 1), *measure_chat(browser, site.url, 4)]
                print(f"| {CHAT} | {' | '.join(map(said, found))} |", flush=True)
        finally:
            browser.close()
            site.close()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
