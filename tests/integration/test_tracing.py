"""Traces: taken over, continued over the turn to each attempt, passed on; free when off."""

from __future__ import annotations

import http.server
import importlib
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import opentelemetry.semconv._incubating.attributes as incubating
import opentelemetry.semconv.attributes as stable
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from service.config.settings import Settings, SettingsError
from service.telemetry import tracing
from service.telemetry.otel import OtelTracer
from tests.conftest import Start
from tests.double import Double
from tests.support.running import ROOT, clean_environment
from tests.support.service import Served
from tests.support.waiting import eventually, eventually_async

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "_tracer", OtelTracer(SimpleSpanProcessor(exporter), "test"))
    yield exporter
    tracing.close()


async def ask(served: Served, message: str, **headers: str) -> None:
    answer = await served.client.post(
        "/chat", json={"user_query": message, "session_id": "s"}, headers=headers
    )
    assert answer.status_code in (200, 502), answer.text


async def finished(exporter: InMemorySpanExporter, count: int) -> list[ReadableSpan]:
    await eventually_async(lambda: len(exporter.get_finished_spans()) >= count)
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


def number(span: ReadableSpan) -> int:
    assert span.context
    return int(span.context.span_id)


def parent(span: ReadableSpan) -> int:
    return int(span.parent.span_id) if span.parent else 0


async def test_a_request_a_turn_and_its_attempt_are_one_trace(
    served: Served, spans: InMemorySpanExporter, double: Double
) -> None:
    await ask(served, "[[tokens=5]] secret words", traceparent=GIVEN)
    request, turn, attempt = await finished(spans, 3)
    assert [request.name, turn.name, attempt.name] == ["POST /chat", "turn", "chat openai/gpt-oss-120b"]
    assert {f"{span.context.trace_id:032x}" for span in (request, turn, attempt) if span.context} == {TRACE}
    assert parent(request) == int(PARENT, 16)
    assert (parent(turn), parent(attempt)) == (number(request), number(turn))
    [call] = double.calls.find(contains="secret words")
    assert call.headers["traceparent"] == f"00-{TRACE}-{number(attempt):016x}-01"
    assert dict(attempt.attributes or {}) | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "groq",
        "gen_ai.request.model": "openai/gpt-oss-120b",
        "gen_ai.response.model": "openai/gpt-oss-120b",
        "gen_ai.response.finish_reasons": ("stop",),
        "server.address": "127.0.0.1",
        "gen_ai.usage.output_tokens": 5,
        "chat.attempt": 1,
    } == dict(attempt.attributes or {})
    attributes = turn.attributes or {}
    assert (attributes["gen_ai.conversation.id"], attributes["chat.turn.outcome"]) == ("s", "completed")
    asked = request.attributes or {}
    assert (asked["http.response.status_code"], asked["url.path"], asked["url.scheme"]) == (
        200,
        "/chat",
        "http",
    )
    assert asked["server.address"]
    everything = str([dict(span.attributes or {}) for span in (request, turn, attempt)])
    assert "secret" not in everything


def conventional() -> set[str]:
    """Every name that OpenTelemetry's conventions have."""
    found: set[str] = set()
    for package in (stable, incubating):
        for module in pkgutil.iter_modules(package.__path__):
            names = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
            found |= {value for name, value in names.items() if name.isupper() and isinstance(value, str)}
    return found


# What the conventions require of each kind of span, and recommend where it is known.
HTTP_SERVER = {f"http.{name}" for name in ("request.method", "route", "response.status_code")}
HTTP_SERVER |= {"url.path", "url.scheme", "server.address", "server.port"}
ASKED = {
    f"gen_ai.{name}" for name in ("operation.name", "provider.name", "request.model", "request.max_tokens")
}
ASKED |= {"server.address", "server.port"}
ANSWERED = {f"gen_ai.response.{name}" for name in ("id", "model", "finish_reasons", "time_to_first_chunk")}
USAGE = {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"}


@pytest.mark.parametrize("fails", [False, True])
async def test_spans_have_the_attributes_of_the_conventions_and_no_others_but_our_own(
    served: Served, spans: InMemorySpanExporter, fails: bool
) -> None:
    await ask(served, "[[fault=401]]" if fails else "[[tokens=5]]")
    request, turn, attempt = await finished(spans, 3)
    assert [span.kind for span in (request, turn, attempt)] == [
        SpanKind.SERVER,
        SpanKind.INTERNAL,
        SpanKind.CLIENT,
    ]
    told = [
        {name for name in span.attributes or {} if not name.startswith("chat.")}
        for span in (request, turn, attempt)
    ]
    error = {"error.type"} if fails else set()
    assert told[0] == HTTP_SERVER | error
    assert told[1] - error == {"gen_ai.conversation.id"} | USAGE
    assert told[2] == ASKED | (error or ANSWERED | USAGE)
    assert set().union(*told) <= conventional()


async def test_probes_are_no_spans(served: Served, spans: InMemorySpanExporter) -> None:
    for path in ("/livez", "/readyz", "/health", "/v1/models"):
        assert (await served.client.get(path, headers={"traceparent": GIVEN})).status_code == 200
    assert [span.name for span in await finished(spans, 1)] == ["GET /v1/models"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "chat"),
        ({"OTEL_SERVICE_NAME": "talk"}, "talk"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=words,team=a"}, "words"),
    ],
)
def test_the_service_is_named_as_opentelemetrys_variables_say(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], name: str
) -> None:
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    exporter = InMemorySpanExporter()
    OtelTracer(SimpleSpanProcessor(exporter), "1.2").start("a", "internal", "", {}).end()
    [span] = exporter.get_finished_spans()
    assert (span.resource.attributes["service.name"], span.resource.attributes["service.version"]) == (
        name,
        "1.2",
    )


async def test_each_attempt_is_a_span_with_what_became_of_it(
    served: Served, spans: InMemorySpanExporter, double: Double
) -> None:
    await ask(served, "[[tokens=5 fault=503 times=1]]")
    found = await finished(spans, 4)
    attempts = [span for span in found if span.name.startswith("chat ")]
    assert [(span.attributes or {}).get("error.type") for span in attempts] == ["capacity", None]
    assert [span.status.is_ok for span in attempts] == [False, True]
    assert len({call.headers["traceparent"] for call in double.calls}) == 2


async def test_without_a_tracer_the_callers_trace_goes_through_with_a_new_span_for_each_attempt(
    served: Served, double: Double
) -> None:
    await ask(served, "[[tokens=5 fault=503 times=1]] through", traceparent=GIVEN)
    passed = [call.headers["traceparent"] for call in double.calls.find(contains="through")]
    assert [value[:36] for value in passed] == [GIVEN[:36]] * 2
    assert len({PARENT, *(value[36:52] for value in passed)}) == 3
    assert {value[52:] for value in passed} == {"-01"}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "rubbish",
        f"01-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        GIVEN.upper(),
        f"{GIVEN}-more",
    ],
)
async def test_what_is_no_trace_context_is_not_passed_on(served: Served, double: Double, given: str) -> None:
    await ask(served, "[[tokens=1]] none", traceparent=given)
    [call] = double.calls.find(contains="none")
    assert "traceparent" not in call.headers


def test_nothing_that_records_spans_is_imported_when_tracing_is_off() -> None:
    program = """
import sys
from service.app import create_app
create_app()
recorders = ("service.telemetry.otel", "opentelemetry.sdk.trace", "opentelemetry.exporter")
print([name for name in sys.modules if name.startswith(recorders)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_boot_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.telemetry.otel", None)
    settings = Settings(_env_file=None, otlp_endpoint="http://collector:4318")
    with pytest.raises(SettingsError, match="CHAT_OTLP_ENDPOINT: needs the extra `tracing`"):
        tracing.configure(settings, "1")


class Collector(http.server.BaseHTTPRequestHandler):
    received: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    received: list[tuple[str, Any]] = []
    handler = type("Handler", (Collector,), {"received": received})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()


async def test_spans_reach_a_collector_at_the_latest_when_the_worker_leaves(start: Start) -> None:
    with collector() as (url, received):
        async with start(otlp_endpoint=url) as served:
            await ask(served, "[[tokens=5]]", traceparent=GIVEN)
        eventually(lambda: received)
        [(path, request)] = received
        [resource] = request.resource_spans
        names = {span.name for scope in resource.scope_spans for span in scope.spans}
        assert path == "/v1/traces"
        assert {"POST /chat", "turn", "chat openai/gpt-oss-120b"} <= names
        about = {item.key: item.value.string_value for item in resource.resource.attributes}
        assert about["service.name"] == "chat"
