"""Reading: answers that are cut, both directions of writing, formulas, code and its colours."""

from __future__ import annotations

from typing import Final

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.ui import Ui, saying
from tests.double import Double
from tests.double.faults import Fault

PYTHON: Final = 'def greet(name: str) -> str:\n    """Say it."""\n    return f"Hello, {name}"  # kindly\n'

#: where what has grown by so many characters at a time looks otherwise than what comes at once, with a clock
#: that stands still, so that nothing waits for another slice
GROWN: Final = """async ([text, step]) => {
    performance.now = () => 0;
    const { Blocks } = await import(new URL("ui/js/blocks.js", document.baseURI));
    const shown = () => {
        const box = document.createElement("div");
        const blocks = new Blocks(box);
        return (text) => { blocks.update(text); return box.innerHTML; };
    };
    const [grown, differs] = [shown(), []];
    for (let length = 1; length < text.length + step; length += step) {
        const part = text.slice(0, length);
        if (grown(part) !== shown()(part)) differs.push(part.length);
    }
    return differs;
}"""
LINES: Final = {
    "table": "| {} | some *words* | and more of them |\n",
    "list": "- item **{}** of a long list, with words\n",
    "numbered list": "{}. item of a long list, with *words*\n",
    "paragraph": "The {}th line of a paragraph, which has *some* words in it and goes on.\n",
}


@pytest.mark.parametrize("what", list(LINES))
def test_what_grows_looks_at_all_times_as_if_it_had_come_at_once(ui: Ui, what: str) -> None:
    """Also where it is so long that it is drawn in pieces, and what follows it."""
    head = "| a | b | c |\n|---|---|---|\n" if what == "table" else ""
    text = head + "".join(LINES[what].format(number) for number in range(1, 6000 // len(LINES[what])))
    whole = f"Before.\n\n{text}\nBehind it.\n\n{text}"
    assert ui.page.evaluate(GROWN, [whole, 131]) == []


def test_a_short_text_is_parsed_however_slow_the_machine_is(ui: Ui) -> None:
    """By a clock that goes on by a second at each look."""
    given_up = ui.page.evaluate("""async () => {
        let time = 0;
        performance.now = () => (time += 1000);
        const { blocks, parser } = await import(new URL("ui/js/parse.js", document.baseURI));
        return ["**b**", "a_b ".repeat(1000)].map((text) => blocks(parser({}), text).costly ?? false);
    }""")
    assert given_up == [False, True]


@pytest.mark.parametrize(
    ("reason", "words"),
    [("length", "reached the most that the model may write"), ("content_filter", "the provider's filter")],
)
def test_an_answer_that_was_cut_says_so_live_and_after_a_reload(ui: Ui, reason: str, words: str) -> None:
    ui.ask(f"[[tokens=20 finish={reason}]]")
    for _ in range(2):
        expect(ui.answer.locator(".cut")).to_contain_text("The answer is cut")
        expect(ui.answer.locator(".cut")).to_contain_text(words)
        ui.page.reload()
        ui.shows("(0)")


def test_what_the_system_says_in_a_conversation_is_not_shown_as_an_answer(ui: Ui) -> None:
    ui.ask("[[say=Hello.]]")
    roles = ("developer", "user", "assistant")
    added = {"items": [{"role": role, "content": f"The {role} says so."} for role in roles]}
    httpx.post(f"{ui.url}/v1/conversations/{ui.address}/items", json=added).raise_for_status()
    ui.page.reload()
    expect(ui.answers).to_have_count(2)
    ui.shows("The assistant says so.")
    expect(ui.page.locator("body")).not_to_contain_text("The developer says so.")


def test_a_whole_answer_says_nothing_of_the_kind(ui: Ui) -> None:
    ui.ask("[[tokens=20]]")
    expect(ui.answer.locator(".cut")).to_be_hidden()


def test_what_runs_from_right_to_left_is_laid_out_so_block_by_block(ui: Ui) -> None:
    text = (
        "مرحبا بالعالم\n\nLeft to right.\n\n- عنصر أول\n- second item\n\n> اقتباس\n\n"
        "| عمود | آخر |\n|---|---|\n"
        "| قيمة | value |\n\n# عنوان\n\n```python\nprint('مرحبا')\n```"
    )
    ui.ask("שלום עולם\nthen English " + saying(text))
    direction = "element => getComputedStyle(element).direction"
    answer = ui.answer.locator(".text")
    for selector, expected in (
        ("p >> nth=0", "rtl"),
        ("p >> nth=1", "ltr"),
        ("li >> nth=0", "rtl"),
        ("li >> nth=1", "ltr"),
        ("blockquote", "rtl"),
        ("table", "rtl"),
        ("td >> nth=0", "rtl"),
        ("td >> nth=1", "ltr"),
        ("h1", "rtl"),
        ("pre", "ltr"),
    ):
        assert answer.locator(selector).evaluate(direction) == expected, selector
    assert ui.questions.first.locator(".bubble").evaluate(direction) == "rtl"
    assert ui.page.locator("#title").evaluate(direction) == "rtl"
    assert ui.titles.first.evaluate(direction) == "rtl"
    ui.field.fill("مرحبا")
    assert ui.field.evaluate(direction) == "rtl"
    ui.questions.first.hover()
    ui.questions.first.get_by_role("button", name="Edit this message").click()
    assert ui.page.get_by_role("textbox", name="Your message").evaluate(direction) == "rtl"


def test_formulas_are_drawn_and_copied_as_they_were_written(ui: Ui) -> None:
    assert not [request.url for request in ui.requests if "temml" in request.url]
    text = (
        "The roots \\(x_{1,2} = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a}\\) and $e^{i\\pi} = -1$:\n\n"
        "\\[ \\int_0^1 x^2\\,dx = \\frac{1}{3} \\]\n\n$$\n\\sum_{n=1}^{\\infty} \\frac{1}{n^2}\n$$\n\n"
        "```math\n\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}\n```\n\n"
        "It costs $5 or $6, and `$x$` is code."
    )
    assert ui.ask(saying(text)) == text
    math = ui.answer.locator("math")
    expect(math).to_have_count(5)
    assert ui.answer.locator("math[display=block]").count() == 3
    expect(ui.answer).to_contain_text("It costs $5 or $6, and $x$ is code.")
    expect(math.first.locator("msqrt")).to_have_count(1)


def test_a_formula_that_is_not_valid_or_wants_more_than_to_be_one_is_shown_as_text(ui: Ui) -> None:
    ui.ask(
        saying(
            "\\(\\notacommand{x}\\) $\\href{javascript:window.hacked=1}{x}$ "
            "$\\includegraphics{https://attacker.example/x.png}$ \\(x"
        )
    )
    expect(ui.answer).to_contain_text("\\(x")
    assert ui.page.evaluate("window.hacked") is None
    assert ui.answer.locator("math a, math img, a, img").count() == 0


def test_code_is_coloured_and_copied_exactly(ui: Ui) -> None:
    assert not [request.url for request in ui.requests if "highlight" in request.url]
    text = (
        f"Here:\n\n```python\n{PYTHON}```\n\n- in a list:\n\n  ```js\n  const one = 1;\n  ```\n\n"
        "```unheard-of\nx\n```\n"
    )
    ui.send("[[rate=100]]" + saying(text))
    ui.shows("const one")
    ui.done()
    figures = ui.answer.get_by_role("figure")
    expect(figures.nth(0).locator(".hljs-keyword").first).to_have_text("def")
    expect(figures.nth(1).locator(".hljs-keyword")).to_have_text("const")
    assert figures.nth(0).locator("pre").text_content() == PYTHON
    assert ui.copied() == text
    loaded = {request.url.rsplit("/", 1)[1] for request in ui.requests if "highlight" in request.url}
    assert loaded == {"core.min.js", "python.min.js", "javascript.min.js"}


def test_growing_code_keeps_what_is_there(ui: Ui) -> None:
    """Neither a selection nor the place one has scrolled to is lost to the next line."""
    ui.ask(saying("```python\nx = 1\n```"))  # the colours are there
    longer = "and longer " * 20
    code = "".join(f"value_{number} = {number}  # {longer}end\n" for number in range(80))
    ui.send("[[rate=300]]" + saying(f"```python\n{code}```"))
    ui.shows("value_30")
    pre = ui.answer.locator("pre")
    pre.evaluate("pre => { window.first = pre.querySelector('.hljs-number'); pre.scrollLeft = 40; }")
    ui.done()
    assert ui.copied() == f"```python\n{code}```"
    assert pre.text_content() == code
    assert ui.page.evaluate("window.first.isConnected")
    assert pre.evaluate("pre => pre.scrollLeft") == 40
    pre.evaluate("pre => getSelection().selectAllChildren(pre)")
    assert ui.page.evaluate("getSelection().toString()").rstrip() == code.rstrip(), "as it is copied by hand"


def test_the_copy_button_of_long_code_stays_in_reach(ui: Ui) -> None:
    code = "".join(f"line {number}\n" for number in range(200))
    ui.ask(saying(f"```\n{code}```\n\nEnd."))
    button = ui.answer.get_by_role("figure").get_by_role("button", name="Copy this code")
    ui.page.locator("#scroll").evaluate("box => box.scrollTo(0, box.scrollHeight / 2)")
    expect(button).to_be_in_viewport()
    button.click()
    ui.page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('line 0')")


def test_a_key_that_the_provider_refuses_is_named(ui: Ui, double: Double) -> None:
    double.faults.add(Fault.parse({"kind": "401"}, times=10))
    ui.send("hello")
    expect(ui.answer.locator(".failure")).to_contain_text("The provider refuses this service's key")


def test_a_limit_of_the_day_is_told_with_its_time(ui: Ui, double: Double) -> None:
    double.faults.add(Fault.parse({"kind": "429_tpd", "retry_after": 7200}, times=10))
    ui.send("hello")
    failure = ui.answer.locator(".failure")
    for _ in range(2):
        expect(failure).to_contain_text("The provider's limit for this model is used up. Try again in")
        expect(failure).to_contain_text("That is ")
        ui.page.reload()


def test_an_answer_that_was_cut_goes_on_where_it_ended(ui: Ui) -> None:
    cut = ui.ask("[[tokens=40 finish=length]]")
    ui.answer.get_by_role("button", name="Continue").click()
    expect(ui.page.get_by_role("button", name="Stop the answer")).to_have_count(0)
    ui.done()
    for _ in range(2):
        assert (ui.questions.count(), ui.answers.count()) == (1, 1)
        whole = ui.copied()
        assert whole.startswith(cut)
        assert len(whole) > len(cut)
        ui.page.reload()
        ui.shows("(0)")


def test_on_paper_a_chat_is_whole_and_alone(ui: Ui) -> None:
    ui.ask(saying("\n\n".join(f"Paragraph {number}." for number in range(60))))
    beside = [ui.field, ui.page.get_by_role("searchbox"), ui.answer.get_by_role("button").first]
    for thing in beside:
        expect(thing).to_be_attached()
    # The elements themselves: what is hidden has no role to be found by.
    handles = [thing.element_handle() for thing in beside]
    ui.page.emulate_media(media="print")
    assert [handle.is_visible() for handle in handles if handle] == [False] * 3
    expect(ui.page.get_by_text("Paragraph 0.", exact=True)).to_be_visible()
    # Nothing of it is cut off or scrolls: the page is as high as the chat.
    heights = "(all) => all.map((part) => document.querySelector(part).scrollHeight)"
    page, chat = ui.page.evaluate(heights, [":root", "#messages"])
    assert page >= chat > 820
