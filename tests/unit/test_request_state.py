"""A request is counted and logged once, by labels that no client makes, as loudly as it matters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import CapturingLogger

from service.api.hosts import PROBES
from service.api.request_state import RequestState
from service.telemetry import tracing
from tests.support.asgi import scope


def ended(
    path: str = "/v1/sessions",
    method: str = "GET",
    status: int = 200,
    route: str | None = "/v1/sessions",
    **fields: str,
) -> dict[str, Any]:
    """The log line of a request."""
    asked = scope(path, method)
    if route:
        asked["route"] = SimpleNamespace(path_format=route)
    lines = CapturingLogger()  # tests before this one may have configured what is logged
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.api.request_state.log", lines)
        state = RequestState(asked, "", cast(Any, None))
        for name, value in fields.items():
            setattr(state, name, value)
        if status:
            state.began(status)
        state.ended()
        state.close()
    [line] = lines.calls
    return {**line.kwargs, "event": line.args[0], "log_level": line.method_name}


def counted(name: str = "chat_http_requests_total", **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        ({}, {"route": "/v1/sessions", "method": "GET", "status": "200"}),
        ({"status": 0}, {"route": "/v1/sessions", "method": "GET", "status": "499"}),
        ({"method": "BREW"}, {"route": "/v1/sessions", "method": "other", "status": "200"}),
        (
            {"route": None, "path": "/a/b", "status": 404},
            {"route": "unmatched", "method": "GET", "status": "404"},
        ),
    ],
)
def test_a_request_is_counted_once_by_labels_that_no_client_makes(
    asked: dict[str, Any], labels: dict[str, str]
) -> None:
    before = counted(**labels)
    line = ended(**asked)
    assert counted(**labels) == before + 1
    assert (line["event"], line["route"], line["method"]) == (
        "request.ended",
        labels["route"],
        labels["method"],
    )
    assert line["status"] == int(labels["status"])


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/v1/sessions", 200, "info"),
        ("/v1/sessions", 429, "info"),
        ("/v1/sessions", 500, "warning"),
        *((probe, 200, "debug") for probe in PROBES),
        ("/readyz", 503, "warning"),
        ("/health", 404, "info"),
    ],
)
def test_a_request_is_logged_as_loudly_as_it_matters(path: str, status: int, level: str) -> None:
    assert ended(path, route=path, status=status)["log_level"] == level


def test_a_line_says_whose_request_it_was_and_the_time_to_its_first_byte() -> None:
    name = "chat_http_time_to_first_byte_seconds_count"
    before = counted(name, route="/v1/sessions")
    said: dict[str, Any] = {"principal": "p", "session": "s", "turn": "t_1", "code": "internal"}
    line = ended(**said)
    assert {one: line[one] for one in said} == said
    assert 0 <= line["first_byte_seconds"] <= line["seconds"]
    assert "first_byte_seconds" not in ended(status=0)
    assert counted(name, route="/v1/sessions") == before + 1


def test_what_a_stream_holds_is_given_back_once_however_it_ends() -> None:
    given: list[int] = []
    state = RequestState(scope(), "", cast(Any, None))
    state.on_end = lambda: given.append(1)
    state.ended()
    state.close()
    assert given == [1]


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1._", True), ("a b", False), ("a" * 129, False), ("", False)]
)
def test_a_request_s_id_is_the_caller_s_where_it_is_clean(given: str, kept: bool) -> None:
    state = RequestState(scope(x_request_id=given), "", cast(Any, None))
    assert (state.request_id == given) is kept
    assert state.request_id


class Traced:
    """A span of the caller's trace, and what becomes of it."""

    def __init__(self) -> None:
        self.traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
        self.did: list[Any] = []

    def rename(self, name: str) -> None:
        self.did.append(("rename", name))

    def set(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes

    def fail(self, kind: str) -> None:
        self.did.append(("fail", kind))

    def end(self) -> None:
        self.did.append("end")


@pytest.mark.parametrize(
    ("fields", "fails"),
    [
        ({}, []),
        ({"status": 404}, []),
        ({"status": 503, "code": "draining"}, [("fail", "draining")]),
        ({"status": 200, "outcome": "broken"}, [("fail", "broken")]),
        ({"status": 500, "outcome": "error"}, [("fail", "error")]),
    ],
)
def test_a_span_has_the_name_of_its_route_and_fails_where_the_answer_did(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], fails: list[Any]
) -> None:
    span = Traced()
    monkeypatch.setattr(tracing, "start", lambda *_: span)
    ended(**fields)
    assert span.did == [("rename", "GET /v1/sessions"), *fails, "end"]
    assert span.attributes["http.response.status_code"] == fields.get("status", 200)
    assert (span.attributes["http.route"], span.attributes["url.scheme"]) == ("/v1/sessions", "http")


def test_probes_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    def start(*given: Any) -> Traced:
        begun.append(given)
        return Traced()

    monkeypatch.setattr(tracing, "start", start)
    for path in PROBES:
        ended(path, route=path)
    assert begun == []
    ended()
    assert begun == [("request", "server", "")]


def test_lines_of_a_request_name_it_and_nothing_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.contextvars.bind_contextvars(turn="of another")
    monkeypatch.setattr(tracing, "start", lambda *_: Traced())
    RequestState(scope(x_request_id="mine"), "", cast(Any, None))
    assert structlog.contextvars.get_contextvars() == {"request": "mine", "trace": "a" * 32}
    for made_up in ("a b", "x" * 129, ""):
        monkeypatch.setattr(tracing, "start", lambda *_: tracing.NOTHING)
        state = RequestState(scope(x_request_id=made_up), "", cast(Any, None))
        assert state.request_id.startswith("r_")
        assert structlog.contextvars.get_contextvars() == {"request": state.request_id}
    structlog.contextvars.clear_contextvars()


def test_a_line_names_what_its_path_does_where_that_can_be_an_id_and_how_it_ended() -> None:
    asked = scope()
    lines = CapturingLogger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.api.request_state.log", lines)
        for session, turn in (("s", "t_1"), ("a b", "x" * 129)):
            asked["path_params"] = {"session_id": session, "turn_id": turn}
            state = RequestState(asked, "", cast(Any, None))
            state.outcome = "cut"
            state.close()
            # Else each would keep the other until the garbage collector comes.
            assert state not in asked.values()
    said = [
        (line.kwargs["outcome"], line.kwargs.get("session"), line.kwargs.get("turn")) for line in lines.calls
    ]
    assert said == [("cut", "s", "t_1"), ("cut", None, None)]


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("h.example:8000", {"server.address": "h.example", "server.port": 8000}),
        ("h.example", {"server.address": "h.example"}),
        ("[::1]:8000", {"server.address": "::1", "server.port": 8000}),
        ("[::1]", {"server.address": "::1"}),
        ("", {}),
    ],
)
def test_a_span_has_the_name_and_the_port_by_which_the_client_has_asked(
    monkeypatch: pytest.MonkeyPatch, host: str, told: dict[str, Any]
) -> None:
    span = Traced()
    monkeypatch.setattr(tracing, "start", lambda *_: span)
    RequestState(scope(host=host), "", cast(Any, None)).close()
    assert {name: one for name, one in span.attributes.items() if name.startswith("server.")} == told
