"""One shape for every line, and no secret in any of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from service.config.settings import Settings
from service.errors import BrokenAnswer
from service.telemetry import logs


class Lines:
    """A stream that loggers write to, and the lines read back from it."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        self.stream = io.TextIOWrapper(self.bytes, "utf-8", write_through=True)

    def text(self) -> str:
        return self.bytes.getvalue().decode()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def last(self) -> dict[str, Any]:
        return self.all()[-1]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def configured(**settings: Any) -> Lines:
    lines = Lines()
    logs.configure(Settings(log_format="json", **settings), stream=lines.stream, cache=False)
    return lines


def test_a_line_has_an_event_a_level_a_time_and_says_who_wrote_it() -> None:
    lines = configured()
    logs.get_logger("service.somewhere").info("turn.ended", seconds=1.5)
    line = lines.last()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "turn.ended",
        "level": "info",
        "seconds": 1.5,
        "source": "service.somewhere",
        "worker": os.getpid(),
        "replica": socket.gethostname(),
    }


def test_foreign_lines_have_the_same_shape() -> None:
    lines = configured()
    ours = logs.get_logger("service")
    ours.info("ours")
    for name in ("uvicorn.error", "gunicorn.error", "some.library"):
        logging.getLogger(name).warning("%d things", 3)
        assert lines.last() | {"timestamp": ""} == {
            "event": "3 things",
            "level": "warning",
            "source": name,
            "timestamp": "",
            "worker": os.getpid(),
            "replica": socket.gethostname(),
        }
    assert len(lines.all()) == 4


def test_context_variables_are_in_every_line() -> None:
    lines = configured()
    structlog.contextvars.bind_contextvars(request="r_1")
    logs.get_logger("a").info("ours")
    logging.getLogger("b").warning("theirs")
    assert [line["request"] for line in lines.all()] == ["r_1", "r_1"]


def test_the_level_holds_for_all() -> None:
    lines = configured(log_level="error")
    logs.get_logger("a").warning("ours")
    logging.getLogger("b").warning("theirs")
    assert lines.text() == ""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_libraries_that_log_every_request_are_quiet(level: str) -> None:
    """At DEBUG some would log what users say."""
    lines = configured(log_level=level)
    for name in ("httpx", "httpcore", "asyncio", "limits", "slowapi", "groq._base_client", "uvicorn.access"):
        logging.getLogger(name).info("HTTP Request: POST ...")
        logging.getLogger(name).debug("Request options: ...")
    assert lines.text() == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("api_key", "anything"),
        ("groq-api-key", "anything"),
        ("access_token", "anything"),
        ("password", "anything"),
        ("client_secret", b"anything"),
        ("note", "sent with gsk_0123456789abcdef to Groq"),
        ("note", "sk-proj-0123456789abcdef"),
        ("header", "Bearer abc.def-123"),
        ("url", "redis://user:hunter2@redis:6379/0"),
        ("url", "rediss://:hunter2@redis:6379/0"),
        ("path", "/v1/sessions/s/turns/t/events?after=3&ticket=abcdef"),
        ("jwt_seen", "eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl"),
        ("headers", {"Authorization": "abc", "x-api-key": "def"}),
        ("parts", ["ok", "Bearer abcdef123"]),
    ],
)
def test_secrets_are_masked(key: str, value: object) -> None:
    lines = configured()
    logs.get_logger("a").info("seen", **{key: value})
    assert logs.MASK in lines.text()
    for secret in (
        "dXNl",
        "anything",
        "0123456789",
        "abc.def",
        "hunter2",
        "abcdef",
        "c2lnb",
        '"abc"',
        '"def"',
    ):
        assert secret not in lines.text()


def test_what_is_no_secret_stays() -> None:
    facts = {
        "tokens": 17,
        "input_tokens": 3,
        "url": "http://user@host:8080/path",
        "note": "task-12345678 has risk-12345678",
        "place": "redis://redis:6379/0",
        "model": "openai/gpt-oss-120b",
    }
    lines = configured()
    logs.get_logger("a").info("seen", **facts)
    assert facts.items() <= lines.last().items()


def test_secrets_in_exceptions_and_foreign_lines_are_masked() -> None:
    lines = configured()
    try:
        raise ConnectionError("cannot reach redis://:hunter2@redis:6379")
    except ConnectionError:
        logs.get_logger("a").exception("store.failed")
        logging.getLogger("b").exception("failed with gsk_0123456789abcdef")
    assert len(lines.all()) == 2
    assert all("ConnectionError" in line["exception"] for line in lines.all())
    assert "hunter2" not in lines.text()
    assert "0123456789" not in lines.text()


def test_any_value_can_be_logged() -> None:
    lines = configured()
    logs.get_logger("a").info("odd", lone="\ud800", big=2**70, what=object(), when={1: {2}})
    assert lines.last()["event"] == "odd"


def test_an_intended_break_is_not_logged_and_any_other_failure_is() -> None:
    lines = configured()
    server = logging.getLogger("uvicorn.error")
    both = ExceptionGroup("both", [BrokenAnswer(), BrokenAnswer()])
    intended: list[BaseException] = [BrokenAnswer(), both, asyncio.CancelledError()]
    for error in intended:
        server.error("Exception in ASGI application\n", exc_info=error)
    assert lines.text() == ""
    for other in (ValueError(), ExceptionGroup("mixed", [BrokenAnswer(), ValueError()])):
        server.error("Exception in ASGI application\n", exc_info=other)
    assert len(lines.all()) == 2


def test_the_console_is_for_people() -> None:
    lines = Lines()
    logs.configure(Settings(log_format="console"), stream=lines.stream, cache=False)
    logs.get_logger("a").warning("store.embedded", password="hunter2")
    logging.getLogger("b").warning("theirs")
    first, second = lines.text().splitlines()
    assert "store.embedded" in first
    assert "hunter2" not in first
    assert "theirs" in second


def test_a_worker_is_named_by_host_and_process() -> None:
    assert logs.worker_name() == f"{socket.gethostname()}:{os.getpid()}"
    assert logs.worker_name(7) == f"{socket.gethostname()}:7"


class Full(io.BytesIO):
    """A disk without room, or a pipe without a reader."""

    def write(self, data: Any, /) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_stream_that_takes_nothing_breaks_nothing(form: Any) -> None:
    stream = io.TextIOWrapper(Full(), "utf-8", write_through=True)
    logs.configure(Settings(_env_file=None, log_format=form), stream=stream, cache=False)
    logs.get_logger("test").info("something.happened")
    logging.getLogger("library").warning("something else")
