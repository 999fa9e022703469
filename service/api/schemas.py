"""The JSON of our answers, as schemas of the OpenAPI document. Requests have theirs in the dialects.

Data only. A test holds real answers against these schemas, so a field that is added to an answer
and not here is a failure there.
"""

from __future__ import annotations

from typing import Final

from service.api.schema_words import (
    COST,
    FLAG,
    MILLISECONDS,
    NUMBER,
    OBJECT,
    SECONDS,
    TEXT,
    Schema,
    event,
    fields,
    many,
    maybe,
    one_of,
    ref,
)

STATE: Final = one_of("queued", "running", "completed", "stopped", "failed")
_LIMITS: Final = {
    "limit_sends": maybe(TEXT),
    "limit_reads": maybe(TEXT),
    "budget_tokens_per_minute": maybe(NUMBER),
    "budget_tokens_per_day": maybe(NUMBER),
    "budget_tokens_per_month": maybe(NUMBER),
    "budget_money_per_day": maybe(TEXT),
    "budget_money_per_month": maybe(TEXT),
    "max_running_turns": maybe(NUMBER),
}
_KEY: Final = {
    "id": TEXT,
    "name": TEXT,
    "owner": maybe(TEXT),
    "principal": TEXT,
    "scopes": many(TEXT),
    "state": TEXT,
    "created": SECONDS,
    "expires": maybe(SECONDS),
    "revoked": maybe(SECONDS),
    "rotated": maybe(SECONDS),
    "last_used": maybe(SECONDS),
    **_LIMITS,
}
_CALL: Final = fields(id=TEXT, type=one_of("function"), function=fields(name=TEXT, arguments=TEXT))
_DONE: Final[Schema] = {"const": "[DONE]"}
_EVENT_ID: Final = {**TEXT, "pattern": "^[0-9]+$", "description": "gapless from 1; the cursor to resume from"}
_CHUNK_ID: Final = {**TEXT, "pattern": r"^t_[a-z0-9]+\.[0-9]+\.[0-9]+$", "description": "the cursor"}
_COUNTS: Final = {"prompt_tokens": NUMBER, "completion_tokens": NUMBER, "total_tokens": NUMBER}
_DETAILS: Final = {
    "prompt_tokens_details": fields(cached_tokens=NUMBER),
    "completion_tokens_details": fields(reasoning_tokens=NUMBER),
}
_FLOAT: Final[Schema] = {"type": "number"}
_TIMES: Final = {"queue_time": _FLOAT, "prompt_time": _FLOAT, "completion_time": _FLOAT, "total_time": _FLOAT}
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
        optional={"retry_after": {"type": "number"}, "param": TEXT, "usage": ref("Tokens")},
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
    "Session": fields(
        id=TEXT,
        title=maybe(TEXT),
        model=maybe(TEXT),
        system_prompt=maybe(TEXT),
        created=MILLISECONDS,
        updated=MILLISECONDS,
        turns=NUMBER,
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
        code=TEXT, message=TEXT, retryable=FLAG, optional={"retry_after": {"type": "number"}, "param": TEXT}
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
    "Model": fields(
        id=TEXT,
        object=one_of("model"),
        created=NUMBER,
        owned_by=TEXT,
        active=FLAG,
        context_window=NUMBER,
        max_completion_tokens=NUMBER,
        input_modalities=many(TEXT),
        capabilities=many(TEXT),
        reasoning_efforts=many(TEXT),
        fallbacks=many(TEXT),
        aliases=many(TEXT),
        default=FLAG,
    ),
    "Models": fields(object=one_of("list"), data=many(ref("Model"))),
    "WholeToolCall": _CALL,
    "ChatCompletion": fields(
        id=TEXT,
        object=one_of("chat.completion"),
        created=SECONDS,
        model=TEXT,
        choices=many(
            fields(
                index=NUMBER,
                logprobs={"type": "null"},
                finish_reason=TEXT,
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
                logprobs={"type": "null"},
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
    "Items": fields(
        object=one_of("list"),
        data=many(ref("Item")),
        first_id=maybe(TEXT),
        last_id=maybe(TEXT),
        has_more=FLAG,
    ),
    "Deleted": fields(id=TEXT, object=one_of("response", "conversation.deleted"), deleted={"const": True}),
    "Conversation": fields(id=TEXT, object=one_of("conversation"), created_at=SECONDS, metadata=OBJECT),
    "Response": fields(
        "OpenAI's Response; what its request did not ask for has OpenAI's default.",
        id=TEXT,
        object=one_of("response"),
        created_at=SECONDS,
        completed_at=maybe(SECONDS),
        status=one_of("queued", "in_progress", "completed", "incomplete", "cancelled", "failed"),
        background=FLAG,
        error=maybe(fields(code=TEXT, message=TEXT, type=TEXT)),
        incomplete_details=maybe(fields(reason=one_of("max_output_tokens", "content_filter"))),
        instructions=maybe(TEXT),
        max_output_tokens=maybe(NUMBER),
        max_tool_calls={"type": "null"},
        model=TEXT,
        output=many(ref("Item")),
        conversation=maybe(fields(id=TEXT)),
        parallel_tool_calls=FLAG,
        previous_response_id=maybe(TEXT),
        prompt_cache_key=maybe(TEXT),
        reasoning=maybe(OBJECT),
        safety_identifier=maybe(TEXT),
        service_tier=TEXT,
        store=FLAG,
        temperature=_FLOAT,
        top_p=_FLOAT,
        presence_penalty=_FLOAT,
        frequency_penalty=_FLOAT,
        top_logprobs=NUMBER,
        text=fields(format=OBJECT),
        tool_choice={"type": ["string", "object"]},
        tools=many(OBJECT),
        truncation=one_of("auto", "disabled"),
        user=maybe(TEXT),
        metadata=OBJECT,
        usage=maybe(
            fields(
                input_tokens=NUMBER,
                output_tokens=NUMBER,
                total_tokens=NUMBER,
                input_tokens_details=fields(cached_tokens=NUMBER, cache_write_tokens=NUMBER),
                output_tokens_details=fields(reasoning_tokens=NUMBER),
            )
        ),
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
    "Key": fields(**_KEY),
    "NewKey": fields(key={**TEXT, "description": "shown here and never again"}, **_KEY),
    "RotatedKey": fields(key={**TEXT, "description": "shown here and never again"}, id=TEXT),
    "Keys": fields(data=many(ref("Key"))),
    "Greeting": fields(message=TEXT),
    "Alive": fields(status=one_of("alive")),
    "Readiness": fields(status=one_of("ready", "unready"), checks=_CHECKS),
    "Health": fields(
        status=one_of("healthy"),
        service=TEXT,
        version=TEXT,
        env=TEXT,
        checks=_CHECKS,
        store=TEXT,
        upstream=TEXT,
        model=TEXT,
        models_unavailable=many(TEXT),
        provider_keys=many(fields(name=TEXT, state=TEXT)),
        turns_running=NUMBER,
    ),
}
