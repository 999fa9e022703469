"""A page from another origin in a real Chromium: CORS, useChat, the module, a browser's EventSource."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from tests.double import Double, expected_text
from tests.support.line import Line
from tests.support.node import FOLDER, Node
from tests.support.pictures import data_url, png
from tests.support.processes import Replica
from tests.support.redis import RedisServer

_EVENTS = """
async ([service, text]) => {
  const started = await fetch(`${service}/v1/sessions/es/turns`, {
    method: "POST",
    headers: { "content-type": "application/json", prefer: "respond-async" },
    body: JSON.stringify({ content: text }),
  });
  const source = new EventSource(`${service}${started.headers.get("location")}/events`);
  window.seen = { text: "", ids: [], opened: 0 };
  source.onopen = () => window.seen.opened++;
  source.addEventListener("delta", (event) => {
    window.seen.text += JSON.parse(event.data).text;
    window.seen.ids.push(Number(event.lastEventId));
  });
  source.addEventListener("turn.completed", () => (window.seen.done = true));
  source.onerror = () => (window.seen.closed = source.readyState === EventSource.CLOSED);
}
"""


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, node: Node) -> Iterator[str]:
    """The origin of an app: one page and one bundle with React, useChat and the AI SDK."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(
        [
            FOLDER / "node_modules" / ".bin" / "esbuild",
            "page.jsx",
            "--bundle",
            "--format=esm",
            "--jsx=automatic",
            '--define:process.env.NODE_ENV="production"',
            "--target=es2022",
            "--log-level=warning",
            f"--outfile={folder / 'page.js'}",
        ],
        cwd=FOLDER,
        check=True,
        timeout=60,
    )
    (folder / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>'
        '<script type="module" src="page.js"></script>'
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def replica(
    redis_server: RedisServer, double_server: tuple[Double, str], elsewhere: str, tmp_path_factory: Any
) -> Iterator[Replica]:
    folder: Path = tmp_path_factory.mktemp("cors")
    running = Replica(
        folder, redis_url=redis_server.url, GROQ_BASE_URL=double_server[1], workers=2, cors_origins=elsewhere
    )
    yield running
    running.close()


Open = Callable[..., Page]


@pytest.fixture
def app(browser: Browser, elsewhere: str, store: redis.Redis, double: Double) -> Iterator[Open]:
    contexts = []

    def begin(**query: str) -> Page:
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{elsewhere}/?{urlencode(query)}")
        return page

    yield begin
    for context in contexts:
        context.close()


def answer(page: Page, text: str, status: str = "ready") -> None:
    expect(page.locator("pre.assistant")).to_have_text(text, timeout=20_000, use_inner_text=False)
    expect(page.locator("main")).to_have_attribute("data-status", status)
    assert page.locator("pre.assistant").text_content() == text


def beyond(
    page: Page, characters: int, place: str = "document.querySelector('pre.assistant')?.textContent"
) -> None:
    page.wait_for_function(f"({place} ?? '').length > {characters}", timeout=20_000)


def test_use_chat_with_the_module_is_cut_and_never_notices(
    app: Open, replica: Replica, double: Double
) -> None:
    with Line(replica.port) as line:
        page = app(service=line.url, way="module", id="m", text="[[tokens=240 rate=30]]")
        for characters in (40, 300, 600):
            beyond(page, characters)
            line.cut()
            line.mend()
        answer(page, expected_text(240))
    assert "error" not in page.evaluate("window.statuses")
    assert len(list(double.calls)) == 1


def test_stock_use_chat_is_cut_and_resumes_with_the_recipe(
    app: Open, replica: Replica, double: Double
) -> None:
    """`onFinish: ({ isDisconnect }) => isDisconnect && resumeStream()`, in the words of Chromium."""
    with Line(replica.port) as line:
        page = app(service=line.url, way="stock", id="s", text="[[tokens=240 rate=30]]")
        beyond(page, 100)
        line.cut()
        line.mend()
        answer(page, expected_text(240))
    assert "error" in page.evaluate("window.statuses")
    assert len(list(double.calls)) == 1


def test_a_reload_in_mid_answer_shows_the_whole_once(app: Open, replica: Replica, double: Double) -> None:
    page = app(service=replica.url, way="stock", id="r", text="[[tokens=150 rate=30]]")
    beyond(page, 100)
    page.reload()
    answer(page, expected_text(150))
    assert page.locator("pre").count() == 2
    page.reload()
    answer(page, expected_text(150))
    assert len(list(double.calls)) == 1


def test_a_tool_of_the_page_and_an_image_are_the_same_after_a_reload(
    app: Open, replica: Replica, double: Double
) -> None:
    asked = "[[tool=weather rounds=3 say=It rains.]]"
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    sees = {"model": "qwen/qwen3.8-27b", "image": data_url(png(30, 20)), "tools": json.dumps(tools)}
    page = app(service=replica.url, way="stock", id="t", text=asked, **sees)
    answer(page, "It rains.")
    image = page.locator("pre.user img")
    expect(image).to_have_js_property("naturalWidth", 30)
    calls: list[Any] = [call.describe()["messages"] for call in double.calls]
    assert len(calls) == 4
    question, *rounds = calls[-1][1:]
    shown, said = question["content"]  # in the order in which the SDK has them
    assert (shown["image_url"]["url"], said["text"]) == (data_url(png(30, 20)), asked)
    assert [one["content"] for one in rounds if one["role"] == "tool"] == ['{"mm":0}', '{"mm":1}', '{"mm":2}']
    page.reload()
    answer(page, "It rains.")
    assert page.locator("pre").count() == 2
    expect(image).to_have_js_property("naturalWidth", 30)
    assert str(image.get_attribute("src")).startswith(f"{replica.url}/v1/sessions/t/images/")
    kept = httpx.get(f"{replica.url}/api/chat/t/messages").json()
    assert [part["type"] for part in kept[0]["parts"]] == ["file", "text"]
    outputs = [part["output"] for part in kept[1]["parts"] if part["type"] == "tool-weather"]
    assert outputs == [{"mm": 0}, {"mm": 1}, {"mm": 2}]
    assert len(list(double.calls)) == 4


def test_an_error_is_a_sentence_that_a_user_can_read(app: Open, replica: Replica) -> None:
    page = app(service=replica.url, way="stock", id="e", text="[[tokens=5 fault=429 retry_after=61]]")
    expect(page.locator("#error")).to_have_text("The model is at its rate limit; try again in 61 s.")


def test_an_event_source_of_another_origin_is_cut_and_resumes(app: Open, replica: Replica) -> None:
    with Line(replica.port) as line:
        page = app(service=replica.url, way="stock", id="none")
        page.evaluate(_EVENTS, [line.url, "[[tokens=200 rate=30]]"])
        beyond(page, 100, "window.seen.text")
        line.cut()
        line.mend()
        page.wait_for_function("window.seen.closed", timeout=20_000)
    seen = page.evaluate("window.seen")
    assert seen["text"] == expected_text(200)
    assert seen["ids"] == sorted(set(seen["ids"]))
    assert (seen["done"], seen["opened"]) == (True, 2)


def test_an_origin_that_is_not_allowed_can_read_nothing(
    app: Open, redis_server: RedisServer, double_server: tuple[Double, str], tmp_path: Path
) -> None:
    strict = Replica(
        tmp_path,
        redis_url=redis_server.url,
        GROQ_BASE_URL=double_server[1],
        cors_origins="https://app.example.com",
    )
    try:
        page = app(service=strict.url, way="stock", id="x", text="hi")
        expect(page.locator("body")).to_have_text("TypeError: Failed to fetch")
    finally:
        strict.close()
