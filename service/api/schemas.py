"""The JSON of our answers, as schemas of the OpenAPI document. Requests have theirs in the dialects.

Data only. A test holds real answers against these schemas, so a field that is added to an answer
and not here is a failure there.
"""

from __future__ import annotations

from typing import Final

from service.api import examples
from service.api.schema_words import (
    COST,
    FLAG,
    FLOAT,
    MILLISECONDS,
    NOTHING,
    NUMBER,
    OBJECT,
    SECONDS,
    TEXT,
    Schema,
    event,
    fields,
    like,
    many,
    maybe,
    one_of,
    ref,
)

STATE: Final = one_of("queued", "running", "completed", "stopped", "failed")
_LIMITS: Final = {
    name: maybe(NUMBER if name.startswith(("budget_tokens", "max_")) else TEXT) for name in examples.LIMITS
}
_OF_KEYS: Final = {
    "created": SECONDS,
    **dict.fromkeys(("expires", "revoked", "rotated", "last_used"), maybe(SECONDS)),
    "owner": maybe(TEXT),
    "webhook_url": maybe(TEXT),
    **_LIMITS,
}
_SECRET: Final = {**TEXT, "description": "shown here and never again"}
_CALL: Final = fields(id=TEXT, type=one_of("function"), function=fields(name=TEXT, arguments=TEXT))
_DONE: Final[Schema] = {"const": "[DONE]"}
_EVENT_ID: Final = {**TEXT, "pattern": "^[0-9]+$", "description": "gapless from 1; the cursor to resume from"}
_CHUNK_ID: Final = {**TEXT, "pattern": r"^t_[a-z0-9]+\.[0-9]+\.[0-9]+$", "description": "the cursor"}
_COUNTS: Final = {"prompt_tokens": NUMBER, "completion_tokens": NUMBER, "total_tokens": NUMBER}
_DETAILS: Final = {
    "prompt_tokens_details": fields(cached_tokens=NUMBER),
    "completion_tokens_details": fields(reasoning_tokens=NUMBER),
}
_TIMES: Final = {"queue_time": FLOAT, "prompt_time": FLOAT, "completion_time": FLOAT, "total_time": FLOAT}
_ENDED: Final = fields(finish_reason=TEXT, usage=ref("Tokens"))
_TURN_EVENTS: Final[dict[str, Schema]] = {
    "turn.started": fields(
        turn_id=TEXT,
        session_id=TEXT,
        model=TEXT,
        created=MILLISECONDS,
        optional={"message_id": {**TEXT, "description": "the answer that it goes on with"}},
    ),
    "attempt.started": fields(attempt=NUMBER, model=TEXT),
    "delta": fields(text=TEXT),
    "reasoning": fields(text=TEXT),
    "tool_call": {**OBJECT, "description": "a piece of a tool call, in OpenAI's shape"},
    "turn.restarted": fields("the text so far is void", attempt=NUMBER),
    "turn.completed": _ENDED,
    "turn.stopped": _ENDED,
    "turn.failed": fields(
        code=TEXT,
        message=TEXT,
        retryable=FLAG,
        optional={"retry_after": FLOAT, "param": TEXT, "usage": ref("Tokens")},
    ),
}
_PARTS: Final = [
    fields(type=one_of("text", "reasoning", "refusal"), text=TEXT),
    fields(
        type=one_of("image"),
        optional=dict.fromkeys(("url", "media_type"), TEXT)
        | dict.fromkeys(("width", "height"), NUMBER)
        | {"ref": {**TEXT, "description": "the SHA-256"}},
    ),
    fields(type=one_of("tool_call"), id=TEXT, name=TEXT, arguments={**TEXT, "description": "JSON"}),
    fields(
        type=one_of("tool_result"),
        tool_call_id=TEXT,
        content=TEXT,
        optional={"is_error": FLAG, "json": {**FLAG, "description": "the content is a value's JSON"}},
    ),
]
_UI_PARTS: Final = [
    fields(type=one_of("file"), mediaType=TEXT, url=TEXT),
    fields(type=one_of("text", "reasoning"), text=TEXT, state=one_of("done")),
    fields(type=one_of("step-start")),
    fields(
        "`tool-<name>`",
        type={**TEXT, "pattern": "^tool-"},
        toolCallId=TEXT,
        state=one_of("input-available", "output-available", "output-error"),
        input={},
        optional={"output": {}, "errorText": TEXT},
    ),
]
_TEXTS_OF_RESPONSES: Final = (
    "instructions",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "user",
)
_BUDGET: Final = fields(
    limit=maybe(NUMBER), used=NUMBER, reserved=NUMBER, resets_at={"type": ["integer", "number", "null"]}
)
_MONEY: Final = fields(limit=maybe(TEXT), used=TEXT, reserved=TEXT, resets_at=SECONDS)
_QUOTA: Final = fields(limit=maybe(NUMBER), used=NUMBER)
_CHECKS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}
_REASON: Final = {"type": ["string", "null"], "description": "stop, length, tool_calls, content_filter"}

SCHEMAS: Final[dict[str, Schema]] = {
    "Problem": fields(
        "RFC 9457",
        type=TEXT,
        title=TEXT,
        status=NUMBER,
        detail=TEXT,
        code={**TEXT, "description": "stable; clients switch on it"},
    ),
    "OpenAIError": fields(
        error=fields(
            message=TEXT,
            type=TEXT,
            param=maybe(TEXT),
            code={**TEXT, "description": "stable"},
            optional={
                "failed_generation": {**TEXT, "description": "what the model made, by Groq's word"},
                "status_code": NUMBER,
            },
        )
    ),
    "Tokens": fields(**_COUNTS, optional=_DETAILS),
    "CallTokens": fields(
        "The times are Groq's, in s, and only for its own clients (below /openai).",
        **_COUNTS,
        optional={**_DETAILS, **_TIMES},
    ),
    "Session": like(
        examples.SESSION,
        **dict.fromkeys(("title", "model", "system_prompt"), maybe(TEXT)),
        **dict.fromkeys(("created", "updated"), MILLISECONDS),
        active_turn=maybe({**TEXT, "description": "the running turn"}),
    ),
    "Sessions": fields(data=many(ref("Session")), next=maybe({**TEXT, "description": "the next cursor"})),
    "Part": {"description": "A part of a message; there are none where all is text.", "anyOf": _PARTS},
    "Message": fields(
        id=TEXT,
        role=one_of("user", "assistant", "system"),
        content=TEXT,
        turn_id=maybe(TEXT),
        state=one_of("completed", "stopped", "failed"),
        created=MILLISECONDS,
        optional={
            "parts": many(ref("Part")),
            "reasoning": {**TEXT, "description": "what the model thought, where it says so"},
            "finish_reason": _REASON,
            "model": {**TEXT, "description": "who answered"},
            "usage": ref("Tokens"),
            "versions": many(ref("Version")),
        },
    ),
    "Messages": fields(data=many(ref("Message")), next=maybe({**TEXT, "description": "the next cursor"})),
    "Export": fields(
        session=ref("Session"), messages=many(ref("Message")), optional={"versions": many(ref("Version"))}
    ),
    "Failure": fields(
        code=TEXT, message=TEXT, retryable=FLAG, optional={"retry_after": FLOAT, "param": TEXT}
    ),
    "Turn": fields(
        id=TEXT,
        session_id=TEXT,
        state=STATE,
        attempt={**NUMBER, "description": "upstream calls made so far"},
        text={**TEXT, "description": "the answer so far, or the whole of it"},
        model=TEXT,
        usage=ref("Tokens"),
        finish_reason=_REASON,
        optional={"error": ref("Failure"), "cost": COST},
    ),
    "Ticket": fields(url={**TEXT, "description": "of the events, for ten minutes"}, expires=SECONDS),
    "Model": like(examples.MODEL),
    "Models": fields(object=one_of("list"), data=many(ref("Model"))),
    "WholeToolCall": _CALL,
    "ChatCompletion": like(
        examples.COMPLETION,
        created=SECONDS,
        choices=many(
            like(
                examples.COMPLETION["choices"][0],
                message=fields(
                    role=one_of("assistant"),
                    content=maybe(TEXT),
                    optional={"reasoning": TEXT, "tool_calls": many(ref("WholeToolCall"))},
                ),
            )
        ),
        usage=ref("CallTokens"),
        x_groq=fields(id=TEXT, optional={"seed": NUMBER}),
        optional={"system_fingerprint": maybe(TEXT), "service_tier": maybe(TEXT)},
    ),
    "ChatCompletionChunk": fields(
        "One `data:` line; the role comes first, `[DONE]` last.",
        id=TEXT,
        object=one_of("chat.completion.chunk"),
        created=SECONDS,
        model=TEXT,
        choices=many(
            fields(
                index=NUMBER,
                logprobs=NOTHING,
                finish_reason=_REASON,
                delta=fields(
                    optional={
                        "role": TEXT,
                        "content": TEXT,
                        "reasoning": TEXT,
                        "tool_calls": many(OBJECT),
                    }
                ),
            )
        ),
        optional={
            "usage": ref("CallTokens"),
            "system_fingerprint": TEXT,
            "service_tier": maybe(TEXT),
            "x_groq": fields(id=TEXT, usage=ref("CallTokens"), optional={"seed": NUMBER}),
        },
    ),
    "Item": {
        "type": "object",
        "required": ["id", "type"],
        "description": "An item as OpenAI has it.",
        "properties": {
            "id": TEXT,
            "type": one_of("message", "reasoning", "function_call", "function_call_output"),
        },
    },
    "Items": like(examples.ITEMS, data=many(ref("Item")), first_id=maybe(TEXT), last_id=maybe(TEXT)),
    "Deleted": fields(id=TEXT, object=one_of("response", "conversation.deleted"), deleted={"const": True}),
    "Conversation": fields(id=TEXT, object=one_of("conversation"), created_at=SECONDS, metadata=OBJECT),
    "Response": like(
        examples.RESPONSE,
        "OpenAI's Response; what its request did not ask for has OpenAI's default.",
        status=one_of("queued", "in_progress", "completed", "incomplete", "cancelled", "failed"),
        created_at=SECONDS,
        completed_at=maybe(SECONDS),
        error=maybe(fields(code=TEXT, message=TEXT, type=TEXT)),
        incomplete_details=maybe(fields(reason=one_of("max_output_tokens", "content_filter"))),
        conversation=maybe(fields(id=TEXT)),
        output=many(ref("Item")),
        max_output_tokens=maybe(NUMBER),
        reasoning=maybe(OBJECT),
        presence_penalty=FLOAT,
        frequency_penalty=FLOAT,
        text=fields(format=OBJECT),
        tool_choice={"type": ["string", "object"]},
        tools=many(OBJECT),
        truncation=one_of("auto", "disabled"),
        metadata=OBJECT,
        usage=maybe(like(examples.RESPONSE["usage"])),
        **dict.fromkeys(_TEXTS_OF_RESPONSES, maybe(TEXT)),
    ),
    "ResponseStreamEvent": {
        "type": "object",
        "required": ["type", "sequence_number"],
        "description": "An event of OpenAI's, by its name; the number is the cursor to read on from.",
        "properties": {"type": TEXT, "sequence_number": NUMBER},
    },
    "ResponseEvent": {"anyOf": [event(ref("ResponseStreamEvent")), event(_DONE)]},
    "HistoryMessage": fields(
        "A UIMessage of the AI SDK; an answer's id equals its `start.messageId`.",
        id=TEXT,
        role=one_of("user", "assistant", "system"),
        parts=many({"anyOf": _UI_PARTS}),
        optional={"metadata": ref("AnswerMetadata")},
    ),
    "AnswerMetadata": fields(
        "Of an answer; the same that its stream has told by then. Of a question the turn's id alone.",
        turnId=TEXT,
        optional={
            "state": one_of("running", "completed", "stopped", "failed"),
            "finishReason": one_of("stop", "length", "content-filter", "tool-calls", "error", "other"),
            "model": TEXT,
            "createdAt": MILLISECONDS,
            "usage": fields(
                inputTokens=NUMBER,
                outputTokens=NUMBER,
                totalTokens=NUMBER,
                optional={"reasoningTokens": NUMBER, "cachedInputTokens": NUMBER},
            ),
        },
    ),
    "HistoryMessages": many(ref("HistoryMessage")),
    "UIMessageChunk": {
        "type": "object",
        "required": ["type"],
        "description": "One `data:` line of the UI message stream: start, start-step, text-start, text-delta,"
        " text-end, reasoning-*, tool-input-*, reset-step (on request), finish-step, message-metadata,"
        " finish, abort or error; `[DONE]` last.",
        "properties": {"type": TEXT},
    },
    "TurnEvent": {
        "description": "An event of the native stream; names that a reader does not know are to be ignored.",
        "anyOf": [event(data, name=name, number=_EVENT_ID) for name, data in _TURN_EVENTS.items()],
    },
    "SessionEvent": {"anyOf": [event(OBJECT)]},
    "CompletionEvent": {
        "anyOf": [event(ref("ChatCompletionChunk")), event(ref("OpenAIError")), event(_DONE)]
    },
    "UIMessageEvent": {
        "anyOf": [event(ref("UIMessageChunk"), number=_CHUNK_ID), event(_DONE, number=_CHUNK_ID)]
    },
    "Key": like(examples.KEY, **_OF_KEYS),
    "NewKey": like(examples.NEW_KEY, key=_SECRET, **_OF_KEYS),
    "ChangedKey": like(
        examples.CHANGED_KEY,
        webhook_secret=maybe({**_SECRET, "description": "of a webhook that was set; never shown again"}),
        **_OF_KEYS,
    ),
    "RotatedKey": like(examples.ROTATED_KEY, key=_SECRET),
    "Keys": fields(data=many(ref("Key"))),
    "OwnLimits": like(examples.OWN_LIMITS, issuer=maybe(TEXT), **_LIMITS),
    "OwnLimitsList": fields(object=one_of("list"), data=many(ref("OwnLimits"))),
    "Greeting": like(examples.GREETING),
    "Alive": fields(status=one_of("alive")),
    "Readiness": fields(status=one_of("ready", "unready"), checks=_CHECKS),
    "Health": like(examples.HEALTH, status=one_of("healthy"), checks=_CHECKS, models_unavailable=many(TEXT)),
    "Usage": like(
        examples.USAGE,
        data=many(ref("DayOfUsage")),
        budgets={"type": "object", "additionalProperties": _BUDGET},
        money=fields(currency=TEXT, day=_MONEY, month=_MONEY),
        storage=fields(sessions=_QUOTA, bytes=_QUOTA),
    ),
    "Principals": like(examples.PRINCIPALS),
    "Version": fields(
        "what an edit or a regenerate has cut off; its first message stood in the place of what is there now",
        id=TEXT,
        replaced={**MILLISECONDS, "description": "when it was cut off"},
        role={**one_of("user", "assistant", "system"), "description": "its first message's"},
        created={**MILLISECONDS, "description": "its first message's"},
        optional={"messages": many(ref("Message"))},
    ),
    "DayOfUsage": like(
        examples.USAGE["data"][0],
        cost=COST,
        optional=dict.fromkeys(("cached_tokens", "reasoning_tokens", "unpriced_turns"), NUMBER),
    ),
    "LiveTurns": fields(
        object=one_of("list"),
        data=many(
            like(
                examples.LIVE_TURNS["data"][0],
                state=one_of("queued", "running"),
                tokens={**NUMBER, "description": "of the answer, so far"},
                worker=maybe(TEXT),
            )
        ),
        total=NUMBER,
    ),
    "StoppedTurns": like(examples.STOPPED_TURNS),
    "WholeExport": like(
        examples.WHOLE, created=MILLISECONDS, usage=many(ref("DayOfUsage")), sessions=many(ref("Export"))
    ),
    "Erasure": like(
        examples.RECEIPT,
        complete={**FLAG, "description": "false: something is left, call again"},
        kept=many(
            like(examples.RECEIPT["kept"][0], seconds=maybe({**NUMBER, "description": "at most, from now"}))
        ),
    ),
}
