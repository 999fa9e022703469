"""Large things stay fast: a 50 kB answer, a session of 500 messages. Bounds are loose on purpose."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.ui import Ui, saying
from tests.support.processes import Replica
from tests.support.waiting import eventually

#: 53 kB of Markdown in 106 sections, each with a list, code and a table.
LONG: Final = "\n\n".join(
    f"## Section {number}\n\n"
    + "Unmistakably longwinded explanations continue. " * 6
    + "\n\n- **considerations**\n- `implementation`\n\n```python\nfor consideration in considerations:\n"
    "    acknowledge(consideration)\n```\n\n| characteristic | interpretation |\n|---|---|\n"
    "| responsiveness | satisfactory |"
    for number in range(106)
)


#: A clock by which a slice is over at each look, and what was made between two looks of it at most. For
#: the parser, which gives up by the clock as well, it stands still.
SLOW_CLOCK: Final = """
    window.most = { block: 0, lines: 0, formula: 0 };
    let [time, formulas, engine] = [0, 0, null];
    const note = (name, number) => { most[name] = Math.max(most[name], number); };
    const observer = new MutationObserver(count);
    function count(records) {
        const added = records.flatMap((record) => [...record.addedNodes]).filter((node) => node.matches);
        const made = new Set(added.flatMap((node) => [node, ...node.querySelectorAll("*")]));
        for (const name of ["block", "lines"]) {
            note(name, [...made].filter((node) => node.classList.contains(name)).length);
        }
    }
    observer.observe(document, { childList: true, subtree: true });
    performance.now = () => {
        if (new Error().stack.includes("/parse.js")) return time;
        count(observer.takeRecords());
        note("formula", formulas);
        formulas = 0;
        return (time += 20);
    };
    Object.defineProperty(window, "temml", {
        get: () => engine,
        set: (real) => {
            engine = { render: (...given) => { formulas += 1; real.render(...given); } };
        },
    });
"""


def seeded(site: Replica, messages: int) -> str:
    """A session with this many messages, the last of which says so."""
    history = [
        {"role": ("user", "assistant")[number % 2], "content": f"Message **{number}**.\n\n" + "words " * 40}
        for number in range(messages - 2)
    ]
    body = {"user_query": "[[say=the last one]]", "session_id": "s_long", "history": history}
    httpx.post(f"{site.url}/chat-with-history", json=body, timeout=30).raise_for_status()
    return "s_long"


@pytest.mark.alone
def test_a_long_answer_arrives_without_blocking_the_page(ui: Ui) -> None:
    assert len(LONG) > 50_000
    ui.page.evaluate("""() => {
        window.longest = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
        }).observe({ type: "longtask" });
    }""")
    ui.send("[[rate=3000]]" + saying(LONG))
    ui.shows("Section 105")
    ui.done()
    assert ui.copied() == LONG
    # 60 to 150 ms on an idle laptop; a page that renders everything at each update takes seconds.
    assert ui.page.evaluate("window.longest") < 1500


@pytest.mark.alone
@pytest.mark.parametrize("what", ["list", "table"])
def test_one_long_block_is_drawn_piece_by_piece(ui: Ui, what: str) -> None:
    rows = {
        "list": "- item **{}** of `a long` list, with words",
        "table": "| {} | some *words* | and more of them |",
    }
    head = {"list": "", "table": "| a | b | c |\n|---|---|---|\n"}
    text = head[what] + "\n".join(rows[what].format(number) for number in range(600))
    ui.page.evaluate("""() => {
        window.longest = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
        }).observe({ type: "longtask" });
    }""")
    ui.send("[[rate=2000]]" + saying(text))
    items = ui.answer.locator("li, tbody tr")
    expect(items.nth(200)).to_be_attached()
    items.first.evaluate("item => { window.first = item; }")
    ui.done()
    assert ui.copied() == text
    assert items.count() == 600
    assert ui.answer.locator("table").count() == (what == "table")
    assert ui.page.evaluate("window.first.isConnected"), "what was there is not drawn again"
    assert ui.page.evaluate("window.longest") < 1500


def test_no_step_of_drawing_makes_more_than_one_block_one_part_of_code_or_one_formula(ui: Ui) -> None:
    """Whatever the machine: by a clock that says at each look that the time of a slice is over."""
    code = "".join(
        f"def function_{number}(a: int) -> int:\n    return a * {number}\n\n" for number in range(200)
    )
    formulas = " ".join(f"\\(x_{{{number}}}\\)" for number in range(40))
    nested = "- in a list:\n\n  ```js\n  1\n  ```"
    text = f"First.\n\n{formulas}\n\nSecond.\n\n```python\n{code}```\n\n{nested}\n\nThe end."
    for _ in range(3):
        ui.ask(saying(text))
    ui.page.add_init_script(SLOW_CLOCK)
    ui.page.reload()
    expect(ui.answers).to_have_count(3)
    for answer in ui.answers.all():
        expect(answer.locator(".text")).to_contain_text("The end.")
        expect(answer.locator("math")).to_have_count(40)
        assert answer.locator("pre").first.text_content() == code
    assert ui.page.evaluate("most") == {"block": 1, "lines": 1, "formula": 1}


@pytest.mark.alone
def test_an_answer_that_takes_a_parser_minutes_is_shown_as_text_and_the_page_stays_at_hand(ui: Ui) -> None:
    text = "a_b" * 16_000
    ui.page.evaluate("""() => {
        window.longest = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
        }).observe({ type: "longtask" });
    }""")
    ui.send("[[rate=3000]]" + saying(text + "\n\nThe end."))
    ui.done()
    ui.shows("The end.")
    assert ui.copied() == text + "\n\nThe end."
    # It gives up after 0.5 s; without a bound one parse of it takes 15 s on an idle laptop.
    assert ui.page.evaluate("window.longest") < 6_000


@pytest.mark.alone
def test_a_long_answer_of_the_history_is_shown_at_once(ui: Ui) -> None:
    ui.ask(saying(LONG))
    ui.page.reload()
    ui.shows("Section 105")
    assert ui.copied() == LONG
    begin = ui.page.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
    assert ui.page.evaluate("performance.now()") - begin < 20_000


@pytest.mark.alone
def test_a_session_of_500_messages_opens_with_its_end_and_loads_the_rest_when_it_is_looked_for(
    visit: Visit, site: Replica
) -> None:
    address = seeded(site, 500)
    ui = visit(path=f"/#/{address}")
    ui.shows("the last one")
    assert ui.questions.count() + ui.answers.count() <= 120
    assert at_end(ui)
    messages = ui.page.locator(".message")
    conversation = ui.page.get_by_role("region", name="Conversation")

    def all_are_there() -> bool:
        # Chromium scrolls there in steps, and stops where something comes above: so the key is held.
        conversation.press("Home")
        return messages.count() == 500

    eventually(all_are_there, within=45)
    expect(messages.first).to_contain_text("Message **0**.")
    ui.page.get_by_role("button", name="Newest").click()
    assert at_end(ui)
    assert ui.ask("[[say=still quick]]") == "still quick"


def test_reading_above_is_not_disturbed_by_what_arrives_below(visit: Visit, site: Replica) -> None:
    ui = visit(path=f"/#/{seeded(site, 60)}")
    ui.shows("the last one")
    ui.send("[[tokens=300 rate=100]]")
    ui.shows("#16")
    ui.page.locator("#scroll").evaluate("box => box.scrollBy(0, -1500)")
    expect(ui.page.get_by_role("button", name="Newest")).to_be_visible()
    place: Any = ui.page.locator("#scroll").evaluate("box => box.scrollTop")
    ui.done()
    assert ui.page.locator("#scroll").evaluate("box => box.scrollTop") == place


def at_end(ui: Ui) -> bool:
    return bool(
        ui.page.locator("#scroll").evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight < 60")
    )
