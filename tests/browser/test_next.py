"""The app of docs/examples/next in Next.js itself: installed from its lock, built, started, used in Chromium.

`make clients` asks for it: Next.js is too large (400 MB) for each run of `make test`, which has its route
handler in node (tests/fault/test_clients.py).
"""

from __future__ import annotations

import os

import pytest
import redis
from playwright.sync_api import Browser

from tests.browser import apps
from tests.browser.conftest import Special
from tests.browser.test_survival import CLUSTER
from tests.clients.matrix.environments import install_next
from tests.double import Double
from tests.support.needed import program

START = ["node_modules/.bin/next", "start", "--port", "{port}", "--hostname", "127.0.0.1"]


@pytest.mark.fault
@pytest.mark.timeout(900)  # the installation and the build
@pytest.mark.parametrize("chosen", ["next"] if "CLIENTS" in os.environ else [])
def test_the_app_is_a_chat_whose_killed_workers_nobody_notices(
    chosen: str, special: Special, browser: Browser, store: redis.Redis, double: Double
) -> None:
    program("npm")
    folder = install_next()
    replica = special("serve", **CLUSTER)
    with apps.served(START, folder, replica) as url:
        apps.is_a_chat(browser, url, replica, store, double)
