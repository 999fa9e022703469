"""Usage, versions, exports and erasures as schemas of the OpenAPI document, with examples. Data only."""

from __future__ import annotations

from typing import Any, Final

from service.api import examples
from service.api.schema_words import (
    COST,
    FLAG,
    MILLISECONDS,
    NUMBER,
    SECONDS,
    TEXT,
    Schema,
    fields,
    many,
    maybe,
    one_of,
    ref,
)

_BUDGET: Final = fields(
    limit=maybe(NUMBER), used=NUMBER, reserved=NUMBER, resets_at={"type": ["integer", "number", "null"]}
)
_MONEY: Final = fields(limit=maybe(TEXT), used=TEXT, reserved=TEXT, resets_at=SECONDS)
_QUOTA: Final = fields(limit=maybe(NUMBER), used=NUMBER)

OF_PERSONS: Final[dict[str, Schema]] = {
    "Usage": fields(
        object=one_of("list"),
        principal=TEXT,
        data=many(ref("DayOfUsage")),
        budgets={"type": "object", "additionalProperties": _BUDGET},
        money=fields(currency=TEXT, day=_MONEY, month=_MONEY),
        storage=fields(sessions=_QUOTA, bytes=_QUOTA),
    ),
    "Principals": fields(object=one_of("list"), data=many(fields(principal=TEXT, last_used=TEXT))),
    "Version": fields(
        "what an edit or a regenerate has cut off; its first message stood in the place of what is there now",
        id=TEXT,
        replaced={**MILLISECONDS, "description": "when it was cut off"},
        messages=many(ref("Message")),
    ),
    "DayOfUsage": fields(
        date=TEXT,
        model=TEXT,
        prompt_tokens=NUMBER,
        completion_tokens=NUMBER,
        total_tokens=NUMBER,
        turns=NUMBER,
        cost=COST,
        optional={"cached_tokens": NUMBER, "reasoning_tokens": NUMBER, "unpriced_turns": NUMBER},
    ),
    "LiveTurns": fields(
        object=one_of("list"),
        data=many(
            fields(
                id=TEXT,
                session_id=TEXT,
                principal=TEXT,
                state=one_of("queued", "running"),
                model=TEXT,
                attempt=NUMBER,
                age_seconds={"type": "number"},
                tokens={**NUMBER, "description": "of the answer, so far"},
                worker=maybe(TEXT),
            )
        ),
        total=NUMBER,
    ),
    "StoppedTurns": fields(object=one_of("list"), stopped=many(TEXT)),
    "WholeExport": fields(
        object=one_of("export"),
        principal=TEXT,
        created=MILLISECONDS,
        usage=many(ref("DayOfUsage")),
        sessions=many(ref("Export")),
    ),
    "Erasure": fields(
        object=one_of("erasure"),
        principal=TEXT,
        complete={**FLAG, "description": "false: something is left, call again"},
        removed=fields(sessions=NUMBER, turns=NUMBER, messages=NUMBER),
        kept=many(
            fields(
                what=TEXT,
                holds=TEXT,
                until=TEXT,
                seconds=maybe({**NUMBER, "description": "at most, from now"}),
            )
        ),
    ),
}

COPY: Final = {**examples.SESSION, "id": "s_01m82xqzhyhm01djtgpydnpmtc"}
FORK_BODIES: Final = {"up to the answer": {"through": examples.ANSWER_ID}}
WHOLE: Final[dict[str, Any]] = {
    "object": "export",
    "principal": "key.k7f3q9",
    "created": 1_795_394_633_123,
    "usage": examples.USAGE["data"],
    "sessions": [examples.EXPORT],
}
RECEIPT: Final[dict[str, Any]] = {
    "object": "erasure",
    "principal": "key.k7f3q9",
    "complete": True,
    "removed": {"sessions": 12, "turns": 80, "messages": 160},
    "kept": [
        {
            "what": "usage",
            "holds": "numbers of turns and tokens by day and model, for the bill; no text",
            "until": "400 days after the day of use",
            "seconds": 34_560_000,
        }
    ],
}
