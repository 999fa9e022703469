"""The apps of docs/examples that Vite builds, served by Vite, used in Chromium. Next.js's: test_next.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser

from tests.browser import apps
from tests.browser.conftest import Special
from tests.browser.test_survival import CLUSTER
from tests.double import Double
from tests.support.node import FOLDER, Node, linked
from tests.support.running import ROOT

VITE = str(FOLDER / "node_modules" / ".bin" / "vite")
PREVIEW = [VITE, "preview", "--port", "{port}", "--strictPort", "--host", "127.0.0.1"]


def built(name: str, folder: Path) -> Path:
    shutil.copytree(ROOT / "docs" / "examples" / name, folder)
    linked(folder)
    done = subprocess.run(
        [VITE, "build"], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.fault
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["vite-react", "assistant-ui"])
def test_an_app_is_a_chat_whose_killed_workers_nobody_notices(
    name: str,
    tmp_path: Path,
    node: Node,
    special: Special,
    browser: Browser,
    store: redis.Redis,
    double: Double,
) -> None:
    folder = built(name, tmp_path / "app")
    replica = special("serve", **CLUSTER)
    with apps.served(PREVIEW, folder, replica) as url:
        apps.is_a_chat(browser, url, replica, store, double)
