"""The example of docs/examples/vite-react: built by Vite, served by Vite, used in Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Special
from tests.browser.test_survival import CLUSTER, owner_of_the_turn
from tests.double import Double, expected_text
from tests.support.node import FOLDER, Node, linked
from tests.support.redis import free_port
from tests.support.running import ROOT
from tests.support.waiting import eventually

VITE = str(FOLDER / "node_modules" / ".bin" / "vite")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, node: Node) -> Path:
    folder = tmp_path_factory.mktemp("example") / "app"
    shutil.copytree(ROOT / "docs" / "examples" / "vite-react", folder)
    linked(folder)
    done = subprocess.run(
        [VITE, "build"], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def app(built: Path, special: Special) -> Iterator[tuple[str, Any]]:
    """Its address, and the replica behind it."""
    replica = special("serve", **CLUSTER)
    port = free_port()
    command = [str(VITE), "preview", "--port", str(port), "--strictPort", "--host", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=built, env={**os.environ, "CHAT_URL": replica.url}, stdout=subprocess.DEVNULL
    ) as process:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(url), within=60)
        yield url, replica
        process.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.fault
@pytest.mark.timeout(180)
def test_a_killed_worker_is_invisible_and_a_reload_finds_the_chat(
    app: tuple[str, Any], browser: Browser, store: redis.Redis, double: Double
) -> None:
    url, replica = app
    page = browser.new_context().new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(url)
    page.get_by_role("textbox", name="Message").fill("[[tokens=300 rate=40 vary]]")
    page.get_by_role("button", name="Send").click()
    answer = page.locator("p.assistant")
    expect(answer).to_contain_text("#49")
    os.kill(owner_of_the_turn(store, replica), signal.SIGKILL)
    expect(answer).to_have_text(expected_text(300, 1).strip())
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert answer.text_content() == expected_text(300, 1)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert len(list(double.calls)) == 2
    page.reload()
    expect(answer).to_have_text(expected_text(300, 1).strip())
    page.get_by_role("textbox", name="Message").fill("[[tokens=3000 rate=50]]")
    page.get_by_role("button", name="Send").click()
    expect(answer.last).to_contain_text("#16")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("p.user")).to_have_count(2)  # a button that becomes another would send once more
    [session] = httpx.get(f"{replica.url}/v1/sessions").json()["data"]
    assert session["active_turn"] is None
    assert troubles == []
    page.context.close()
