"""What exists is documented, and what is documented exists: settings, errors, events, promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import events
from service.config.loading import NAMES
from service.config.settings import Settings
from service.errors import CODES
from tests.conftest import Start
from tests.docs import reference
from tests.docs.pages import blocks, code, rows
from tests.support.running import ROOT
from tests.support.sse import Frame, frames

DOCS = ROOT / "docs"


# Settings


def shown(value: Any) -> str:
    """A default as docs/configuration.md writes it."""
    if value is None:
        return "unset"
    if value == () or value == "":
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else f"{value}"


def test_every_setting_is_documented_with_its_default_and_no_other_is() -> None:
    written = {
        code(name)[0]: default.strip("`")
        for name, default, *_ in rows(DOCS / "configuration.md")
        if code(name) and code(name)[0].startswith(("CHAT_", "GROQ_"))
    }
    real = {NAMES[field]: shown(info.default) for field, info in Settings.model_fields.items()}
    assert written == real


def test_settings_that_pages_speak_of_exist() -> None:
    known = {*NAMES.values(), "CHAT_", "GROQ_"}
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for name in re.findall(r"\b(?:CHAT|GROQ)_[A-Z_]+\b", page.read_text()):
            assert name in known, f"{page.name} speaks of {name}"


# Errors


def test_every_error_code_is_documented_with_its_status_and_no_other_is() -> None:
    written = {code(row[0])[0]: (int(row[1]), row[2] == "yes") for row in rows(DOCS / "api.md", "Errors")}
    assert written == {name: (status, retryable) for name, (status, retryable, _) in CODES.items()}


# Events


def fields_of() -> dict[str, tuple[set[str], set[str]]]:
    """Event -> (fields that are always there, fields that may be)."""
    found = {}
    for event, fields, _ in rows(DOCS / "events.md", "Every event"):
        names = code(fields)
        found[code(event)[0]] = (
            {name for name in names if not name.endswith("?")},
            {name[:-1] for name in names if name.endswith("?")},
        )
    return found


def fits(name: str, data: dict[str, Any]) -> bool:
    always, maybe = fields_of()[name]
    return always <= data.keys() <= always | maybe


def test_every_event_is_documented_and_has_an_example() -> None:
    known = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    assert fields_of().keys() == known
    examples = {
        block.marks[0]: json.loads(block.text)
        for block in blocks(DOCS / "events.md")
        if block.language == "json"
    }
    assert examples.keys() == known
    for name, example in examples.items():
        assert fits(name, example), name


async def log_of(client: httpx.AsyncClient, content: str) -> list[Frame]:
    async with client.stream("POST", "/v1/sessions/s/turns", json={"content": content}) as answer:
        return [frame async for frame in frames(answer)]


async def test_real_logs_hold_what_is_documented(start: Start) -> None:
    async with start(retry_budget_seconds=0) as served:
        seen = [
            *await log_of(served.client, "[[tokens=20 reasoning=5]]"),
            *await log_of(served.client, "[[fault=429 retry_after=61]]"),
            *await log_of(served.client, "[[fault=cut after=3]]"),
            *await _stopped(served.client),
            *await _with_tools(served.client),
        ]
    for frame in seen:
        assert fits(frame.event, frame.data), frame
    # A restart needs a killed worker: tests/fault has those.
    assert {frame.event for frame in seen} == fields_of().keys() - {"turn.restarted"}


async def _stopped(client: httpx.AsyncClient) -> list[Frame]:
    found: list[Frame] = []
    body = {"content": "[[tokens=4000 rate=200]]"}
    async with client.stream("POST", "/v1/sessions/s/turns", json=body) as answer:
        async for frame in frames(answer):
            found.append(frame)
            if frame.id == 3:
                await client.post(f"/v1/sessions/s/turns/{answer.headers['x-turn-id']}/stop")
    return found


async def _with_tools(client: httpx.AsyncClient) -> list[Frame]:
    body = {
        "messages": [{"role": "user", "content": "[[tool=weather]]"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    }
    answer = await client.post("/v1/chat/completions", json=body)
    session, turn = answer.headers["x-session-id"], answer.headers["x-turn-id"]
    async with client.stream("GET", f"/v1/sessions/{session}/turns/{turn}/events") as stream:
        return [frame async for frame in frames(stream)]


# Promises


def references(page: Path) -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", page.read_text())


def test_every_promise_names_tests_that_exist() -> None:
    named = references(DOCS / "reliability.md")
    assert named
    for name in named:
        file, _, function = name.partition("::")
        assert (ROOT / file).exists(), name
        functions = re.findall(r"^(?:async )?def (\w+)\(", (ROOT / file).read_text(), re.M)
        assert function in functions, name


@pytest.mark.parametrize("number", range(1, 11))
def test_each_promise_has_its_place_and_its_proof(number: int) -> None:
    text = (DOCS / "reliability.md").read_text()
    section = text.partition(f"## P{number} ")[2].partition("\n## ")[0]
    assert section, f"P{number} is missing"
    assert re.search(r"`tests/[\w/]+\.py::\w+`", section), f"P{number} names no test"


def test_the_figures_of_the_readme_are_those_of_the_pages_that_measure() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("<!-- figures")[2].partition("<!-- /figures -->")[0]
    reliability, _, performance = section.partition("Cost, from")
    for text, page in ((reliability, "reliability.md"), (performance, "performance.md")):
        measured = (DOCS / page).read_text().partition("<!-- figures -->")[2]
        figures = re.findall(r"\*\*([^*]+)\*\*", text)
        assert figures, page
        for figure in figures:
            assert re.search(rf"(?<![\d.]){re.escape(figure)}", measured), f"{figure} is not in {page}"


# The API


def test_the_api_reference_is_what_the_openapi_document_says() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `make docs`"


def test_every_route_is_in_the_document_or_known_to_be_apart() -> None:
    apart = {"/openapi.json", "/docs", "/ui", "/ui/{name:path}"}
    described = set(reference.document()["paths"])
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for path in re.findall(r"`(?:GET|POST|PATCH|DELETE) (/[^`?\s]*)", page.read_text()):
            known = {re.sub(r"\{[^}]*\}", "{}", one) for one in described | apart}
            assert re.sub(r"\{[^}]*\}", "{}", path) in known, f"{page.name} speaks of {path}"


# Commands


def test_every_make_command_that_is_named_exists() -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for name in re.findall(r"(?:^|`)make ([a-z]+)\b", page.read_text(), re.M):
            assert name in known, f"{page.name}: make {name}"
