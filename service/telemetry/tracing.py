"""Traces: the caller's W3C trace context taken over, continued and passed on.

Without CHAT_OTLP_ENDPOINT a span is nothing but a new span id below its parent, and nothing
at all where the caller sent no context. With it (and the extra `tracing`) spans go to an
OpenTelemetry collector; the SDK is imported only then. Spans carry names, numbers and ids,
never the text of a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from service.config.settings import Settings, SettingsError

if TYPE_CHECKING:
    from service.telemetry.otel import OtelSpan, OtelTracer

Kind = Literal["server", "internal", "client"]
Value = str | int | float | bool | list[str]

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Unrecorded:
    """A span that goes nowhere. `traceparent` is what its parts name as their parent."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def set(self, attributes: Mapping[str, Value | None]) -> None: ...
    def rename(self, name: str) -> None: ...
    def fail(self, kind: str) -> None: ...
    def end(self) -> None: ...


Span: TypeAlias = "Unrecorded | OtelSpan"

NOTHING: Final = Unrecorded("")

_tracer: OtelTracer | None = None  # one per process, like the logger


def configure(settings: Settings, version: str) -> None:
    """Raises SettingsError where spans are wanted and the extra is not installed."""
    global _tracer
    close()
    if settings.otlp_endpoint:
        try:
            from service.telemetry.otel import OtelTracer
        except ImportError:
            raise SettingsError(
                "CHAT_OTLP_ENDPOINT: needs the extra `tracing`,"
                " pip install -r deploy/requirements-tracing.txt."
            ) from None
        _tracer = OtelTracer.exporting(settings.otlp_endpoint, version)


def close() -> None:
    """Send the spans that wait; blocks for 3 s at most."""
    global _tracer
    if _tracer is not None:
        _tracer.close()
        _tracer = None


def accepted(header: str) -> str:
    """A traceparent header as it came, "" unless it is a valid one of version 00."""
    return header if _TRACEPARENT.match(header) else ""


def trace_id(traceparent: str) -> str:
    return traceparent[3:35]


def start(name: str, kind: Kind, parent: str, attributes: Mapping[str, Value | None] | None = None) -> Span:
    if _tracer is not None:
        return _tracer.start(name, kind, parent, attributes or {})
    if not parent:
        return NOTHING
    return Unrecorded(f"{parent[:36]}{os.urandom(8).hex()}{parent[52:]}")
