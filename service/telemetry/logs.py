"""Logs: one line per fact, one shape for everything that a process writes.

Our own lines go through structlog's fast path, those of uvicorn, gunicorn and any library
through the standard `logging` and a formatter with the same processors; JSON in production,
readable text locally, all of it on stderr, so that stdout stays free for what a command
prints. Every line carries `replica` and `worker`, the two halves of `worker_name()`.

Redaction here is a last line of defence: who logs does not log secrets in the first place.
Which facts are logged is decided where they happen, not here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.config
import os
import re
import socket
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, BinaryIO, Final, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from service.config.loading import unknown_names
from service.config.settings import Settings

MASK: Final = "***"

_REPLICA: Final = socket.gethostname()

_SECRET_KEY: Final = re.compile(
    r"(?:^|[_-])(?:authorization|api[_-]?key|jwt|token|ticket|password|passwd|secret|cookie)$", re.I
)
_SECRET_VALUE: Final = re.compile(
    r"""
    (?P<keep> \bBearer\s+            # an Authorization header
            | [?&]ticket=            # the query string of an EventSource
            | ://[^\s:/@]*:(?=[^\s@]+@)  # redis://user:password@host
    ) [^\s@&"']+
    | \bgsk_[\w-]{8,}                # a Groq key
    | \bsk-[\w-]{8,}                 # an OpenAI key
    | \bchat_[0-9a-z]{12}_\w{20,}     # one of ours
    | \beyJ[\w-]+\.[\w-]+\.[\w-]*    # a JWT
    """,
    re.X | re.I,
)
# Every secret value has one of these. Looking for them is ten times faster, and few values have any.
_MARKS: Final = ("bearer", "ticket=", "://", "gsk_", "sk-", "chat_", "eyj")
_MARKS_IN_BYTES: Final = [mark.encode() for mark in _MARKS]
# A line of these types has no nested keys.
_FLAT: Final = frozenset((str, int, float, bool, type(None)))
_DEEPEST: Final = 4  # levels of nested values that are redacted; lines have a dict of headers at most

# Libraries that log each request they make at INFO: 2 lines per answer that say nothing new.
# At DEBUG the groq SDK would log whole request bodies, and with them what users say.
_QUIET: Final = ("httpx", "httpcore", "asyncio", "limits", "slowapi", "groq")


class _Lenient:
    """A stream whose errors are dropped: a full disk or a dead log reader must not break answers."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def worker_name(pid: int | None = None) -> str:
    """The name under which a worker process holds leases: `<hostname>:<pid>`."""
    return f"{_REPLICA}:{os.getpid() if pid is None else pid}"


def get_logger(name: str) -> FilteringBoundLogger:
    return cast(FilteringBoundLogger, structlog.get_logger(source=name))


def configure(settings: Settings, *, stream: TextIO | None = None, cache: bool = True) -> None:
    """Set up structlog and the standard `logging` of this process."""
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logger_factory: Any = (
        structlog.WriteLoggerFactory(cast(TextIO, _Lenient(stream)))
        if settings.log_format == "console"
        else structlog.BytesLoggerFactory(cast(BinaryIO, _Lenient(stream.buffer)))
    )
    structlog.configure(
        processors=[*_shared(), *_last(settings, stream)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=logger_factory,
        cache_logger_on_first_use=cache,
    )
    logging.config.dictConfig(stdlib_config(settings, stream=stream))
    logging.captureWarnings(True)


def warn_of(settings: Settings) -> None:
    """Warn, once per start, of settings that are allowed and probably not meant."""
    log = get_logger("service.settings")
    for name in unknown_names():
        log.warning("settings.unknown", name=name)
    if settings.production and (settings.groq_base_url or "").lower().startswith("http://"):
        log.warning(
            "settings.plain_http",
            name="GROQ_BASE_URL",
            note="the key and all messages go there unencrypted; use https:// unless the way is private.",
        )
    if settings.production and settings.metrics_port is None and settings.metrics_token is None:
        log.warning(
            "settings.open_metrics",
            name="CHAT_METRICS_TOKEN",
            note="/metrics is open to whoever reaches CHAT_PORT; set CHAT_METRICS_TOKEN, or CHAT_METRICS_PORT"
            " to a port that only Prometheus reaches.",
        )
    if settings.jwks_in_plain:  # production refuses it
        log.warning(
            "settings.plain_http",
            name="CHAT_JWT_JWKS_URL",
            note="whoever is on the way can put in a key of his own and sign tokens; use https://.",
        )


def stdlib_config(settings: Settings, *, stream: TextIO | None = None) -> dict[str, Any]:
    """What `logging.config.dictConfig` needs; Gunicorn takes it as `logconfig_dict`."""
    stream = stream or sys.stderr
    level = settings.log_level.upper()

    def formatter() -> logging.Formatter:
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_source, *_shared()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_last(settings, stream, text=True),
            ],
        )

    ours = {"handlers": ["stream"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": formatter}},
        "filters": {"intended": {"()": IntendedBreaks}},
        "handlers": {
            "stream": {
                "class": "logging.StreamHandler",
                "stream": stream,
                "formatter": "ours",
                "filters": ["intended"],
            }
        },
        "root": {"handlers": ["stream"], "level": level},
        "loggers": {
            "gunicorn.error": ours,
            "gunicorn.access": {**ours, "level": "WARNING"},
            "uvicorn": ours,
            "uvicorn.error": {**ours, "level": max(level, "WARNING", key=logging.getLevelName)},
            "uvicorn.access": {**ours, "level": "WARNING"},
            "uvicorn.asgi": ours,
            **{name: {"level": "WARNING"} for name in _QUIET},
        },
    }


_INTENDED: Final = ("BrokenAnswer", "CancelledError")


class IntendedBreaks(logging.Filter):
    """Drops the server's complaint about a `BrokenAnswer`: that connection broke on purpose.

    And about requests that a server cancels when it ends: `server.requests_cut` says how many.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return error is None or not all(type(leaf).__name__ in _INTENDED for leaf in _leaves(error))


def _leaves(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _identify,
    ]


def _last(settings: Settings, stream: TextIO, *, text: bool = False) -> list[Processor]:
    if settings.log_format == "console":
        return [
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    return [structlog.processors.format_exc_info, _json_text if text else _json_bytes]


def _identify(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    # The process id is read each time: a worker is a fork of a process that has logged before.
    event["replica"] = _REPLICA
    event["worker"] = os.getpid()
    return event


def _name_source(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["source"] = event["_record"].name
    return event


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if type(value) is not int:
            event[key] = _redacted(key, value, 0)
    return event


@lru_cache(maxsize=256)
def _is_secret(key: str) -> bool:
    return bool(_SECRET_KEY.search(key))


def _redacted(key: str, value: Any, depth: int) -> Any:
    if isinstance(value, str):
        if _is_secret(key):
            return MASK
        low = value.lower()
        for mark in _MARKS:
            if mark in low:
                return _SECRET_VALUE.sub(lambda found: (found["keep"] or "") + MASK, value)
        return value
    if isinstance(value, bytes):
        return _redacted(key, value.decode("utf-8", "replace"), depth)
    if depth < _DEEPEST:
        if isinstance(value, dict):
            return {name: _redacted(str(name), part, depth + 1) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [_redacted(key, part, depth + 1) for part in value]
    return value


def _json_bytes(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """Only lines that have a mark of a secret are redacted value by value; these are few."""
    line = _dumped(event)
    if _FLAT.issuperset(map(type, event.values())) and not any(map(_is_secret, event)):
        low = line.lower()
        for mark in _MARKS_IN_BYTES:
            if mark in low:
                break
        else:
            return line
    return _dumped(redact(logger, method, event))


def _dumped(event: EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=_unknown, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # a lone surrogate, a huge integer: rare, and no line may be lost
        return json.dumps(event, default=_unknown, skipkeys=True).encode()


def _json_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    return _json_bytes(logger, method, event).decode()


def _unknown(value: Any) -> str:
    return cast(str, _redacted("", str(value), 0))
