"""A real Chromium, without windows, on a real service: one browser and one replica for the page's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, sync_playwright

from tests.browser.ui import Ui
from tests.double import Double
from tests.support.needed import program
from tests.support.processes import Replica
from tests.support.redis import RedisServer


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # The first, which has no windows at all, takes half of the processor's time.
    path = program("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        # Tests run as root in containers, where Chromium's sandbox cannot.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def site(
    redis_server: RedisServer,
    double_server: tuple[Double, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Replica]:
    replica = Replica(
        tmp_path_factory.mktemp("site"), "run", redis_url=redis_server.url, GROQ_BASE_URL=double_server[1]
    )
    yield replica
    replica.kill()


Special = Callable[..., Replica]


@pytest.fixture
def special(
    redis_server: RedisServer, double_server: tuple[Double, str], tmp_path: Path
) -> Iterator[Special]:
    """Start a replica with settings of the test's own."""
    replicas: list[Replica] = []

    def begin(command: str = "run", **settings: Any) -> Replica:
        replica = Replica(
            tmp_path, command, redis_url=redis_server.url, GROQ_BASE_URL=double_server[1], **settings
        )
        replicas.append(replica)
        return replica

    yield begin
    for replica in replicas:
        replica.kill()


Visit = Callable[..., Ui]


@pytest.fixture
def visit(browser: Browser, site: Replica, store: redis.Redis, double: Double) -> Iterator[Visit]:
    """Open the page in a browser profile of its own; what the browser complained of fails the test."""
    visits: list[Ui] = []

    def begin(url: str = site.url, path: str = "/", **options: Any) -> Ui:
        context = browser.new_context(
            permissions=["clipboard-read", "clipboard-write"],
            **{"viewport": {"width": 1280, "height": 820}, **options},
        )
        ui = Ui(context.new_page(), url)
        visits.append(ui)
        return ui.open(path)

    yield begin
    for ui in visits:
        ui.page.context.close()
    for ui in visits:
        ui.check()


@pytest.fixture
def ui(visit: Visit) -> Ui:
    return visit()
