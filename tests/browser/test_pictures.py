"""Pictures of the page, kept in artifacts/ to be looked at: light, dark, phone, mid-answer, failure.

With README_PICTURES=1 those of the README and the docs are made anew (docs/images/).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import expect

from service.demo.examples import ANSWERS
from tests.browser.conftest import Visit
from tests.browser.ui import Ui, saying
from tests.support.processes import ROOT

ARTIFACTS: Final = ROOT / "artifacts" / "pictures"
README: Final = ROOT / "docs" / "images"
RAINBOW, INTERVALS, STREAMS, LISBON = ANSWERS
KEPT: Final = ("chat-light", "chat-dark", "chat-phone", "chat-math", "chat-rtl")
MATH: Final = (
    "The roots of \\(ax^2+bx+c=0\\) are\n\n\\[ x_{1,2} = \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a} \\]\n\n"
    '```python\nfrom cmath import sqrt\n\ndef roots(a, b, c):\n    """Both of them."""\n'
    "    root = sqrt(b * b - 4 * a * c)\n    return (-b + root) / (2 * a), (-b - root) / (2 * a)\n```\n"
)
RIGHT_TO_LEFT: Final = (
    "قوس قزح ضوء انكسر في قطرات الماء.\n\n1. يدخل الضوء القطرة وينكسر.\n2. ينعكس في داخلها.\n"
    "3. يخرج منها بألوانه.\n\n> كل قطرة ترسل إلى عينك لونا واحدا.\n\nIn English: *dispersion*.\n"
)
DESKTOP: Final = {"viewport": {"width": 1440, "height": 820}}
PHONE: Final = {
    "viewport": {"width": 360, "height": 780},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


def picture(ui: Ui, name: str) -> None:
    ui.page.mouse.move(2, 2)
    ui.page.wait_for_function("document.fonts.status === 'loaded'")
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    path = ARTIFACTS / f"{name}.png"
    ui.page.screenshot(path=path)
    assert path.stat().st_size > 10_000, "a page with something on it"
    if os.environ.get("README_PICTURES") and name in KEPT:
        README.mkdir(parents=True, exist_ok=True)
        (README / path.name).write_bytes(Path(path).read_bytes())
        assert path.stat().st_size < 300_000, "small enough for the README"


def talked(visit: Visit, questions: list[str], **options: Any) -> Ui:
    ui = visit(reduced_motion="reduce", **options)
    for number, question in enumerate(questions):
        if number:
            ui.page.keyboard.press("Alt+n")
        ui.send(question)
        ui.done()
    return ui


def called(ui: Ui, title: str) -> None:
    """The question and the chat, without what it tells the double."""
    httpx.patch(f"{ui.url}/v1/sessions/{ui.address}", json={"title": title}).raise_for_status()
    expect(ui.page.locator("#title")).to_have_text(title)
    expect(ui.titles.first).to_have_text(title)
    ui.page.locator(".bubble").evaluate("(bubble, title) => { bubble.textContent = title; }", title)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_the_desktop(visit: Visit, scheme: str) -> None:
    ui = visit(reduced_motion="reduce", color_scheme=scheme, **DESKTOP)
    expect(ui.page.locator("#prompts button")).to_have_count(4)
    picture(ui, f"welcome-{scheme}")
    orders = {"light": [RAINBOW, LISBON, INTERVALS, STREAMS], "dark": [RAINBOW, STREAMS, INTERVALS, LISBON]}
    ui = talked(visit, orders[scheme], color_scheme=scheme, **DESKTOP)
    picture(ui, f"chat-{scheme}")
    ui.page.get_by_role("button", name="Shortcuts").click()
    picture(ui, f"shortcuts-{scheme}")
    ui.page.keyboard.press("Escape")
    ui.send("[[tokens=60 fault=cut after=40]]")
    expect(ui.answer.locator(".failure")).to_be_visible()
    picture(ui, f"failure-{scheme}")


def test_pictures_of_a_phone(visit: Visit) -> None:
    ui = talked(visit, [LISBON, RAINBOW, INTERVALS], color_scheme="light", **PHONE)
    ui.page.locator("#scroll").evaluate("box => box.scrollTo(0, 0)")
    picture(ui, "chat-phone")
    ui.page.get_by_role("button", name="List of chats", exact=True).click()
    expect(ui.page.get_by_role("button", name="New chat")).to_be_visible()
    ui.page.wait_for_timeout(300)
    picture(ui, "drawer-phone")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "dark")])
def test_pictures_of_formulas_code_and_what_runs_from_right_to_left(
    visit: Visit, width: int, scheme: str
) -> None:
    size = {"viewport": {"width": width, "height": 760}}
    ui = visit(reduced_motion="reduce", color_scheme=scheme, **size)
    ui.send("The quadratic formula " + saying(MATH))
    ui.done()
    expect(ui.answer.locator("math")).to_have_count(2)
    expect(ui.answer.locator(".hljs-keyword").first).to_be_visible()
    called(ui, "The quadratic formula, please.")
    picture(ui, "chat-math" if width == 768 else f"math-{width}")
    ui.page.keyboard.press("Alt+n")
    ui.send("كيف يتكون قوس قزح؟ " + saying(RIGHT_TO_LEFT))
    ui.done()
    called(ui, "كيف يتكون قوس قزح؟")
    picture(ui, "chat-rtl" if width == 768 else f"rtl-{width}")
