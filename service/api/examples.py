"""Examples of the OpenAPI document: one request and one answer of each kind, as they are on the wire."""

from __future__ import annotations

from typing import Any, Final

import orjson

from service import events
from service.dialects.aisdk import AiSdkEncoder
from service.dialects.base import Encoder
from service.dialects.native import NativeEncoder
from service.dialects.openai import CompletionEncoder, StreamEncoder
from service.dialects.responses import ResponseObject, ResponseStream
from service.events import Event, delta, structured
from service.store import credentials

_TURN_ID: Final = "t_01m82xqzhyhm01djtgpydnpmtb"
_ANSWER_ID: Final = "m_01m82xqzhyhm01djtgpydnpmtb"
_AT: Final = 1_795_394_633_123
_MODEL: Final = "openai/gpt-oss-120b"
_ASKED: Final = "Why is the sky blue?"
_SAID: Final = "Blue light is scattered most."
_TOKENS: Final = {"prompt_tokens": 22, "completion_tokens": 7, "total_tokens": 29}
_USER: Final = {"id": "u4MkTnLmVz1xK9Qs", "role": "user", "parts": [{"type": "text", "text": _ASKED}]}
_RESPONSE_ID: Final = "resp_01m82xqzhyhm01djtgpydnpmtb_my-chat"

#: name of a body's model -> name of an example -> the body
BODIES: Final[dict[str, dict[str, Any]]] = {
    "ChatBody": {
        "question": {"user_query": _ASKED},
        "continued": {"user_query": "And at night?", "session_id": "my-chat", "temperature": 0.2},
    },
    "ChatWithHistoryBody": {
        "seeded": {
            "user_query": "And at night?",
            "system_prompt": "You are a patient teacher.",
            "history": [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _SAID}],
        }
    },
    "SessionBody": {"named": {"id": "my-chat", "title": "The sky", "model": _MODEL}, "made": {}},
    "SessionPatch": {
        "title": {"title": "Colours"},
        "away": {"system_prompt": None},
        "back": {"version": "v_2"},
    },
    "TurnBody": {
        "message": {"content": _ASKED, "params": {"reasoning_effort": "low"}, "on_busy": "queue"},
        "regenerate": {"regenerate": True},
        "edit": {"edit": {"message_id": "m_01m82xqzhyhm01djtgpydnpmta", "content": "Why is the sea blue?"}},
    },
    "CompletionBody": {
        "stream": {"model": _MODEL, "messages": [{"role": "user", "content": _ASKED}], "stream": True},
        "whole": {"messages": [{"role": "user", "content": _ASKED}]},
    },
    "UseChatBody": {
        "submit": {"id": "my-chat", "messages": [_USER], "trigger": "submit-message"},
        "regenerate": {"id": "my-chat", "messages": [_USER], "trigger": "regenerate-message"},
        "edit": {"id": "my-chat", "messages": [_USER], "trigger": "submit-message", "messageId": _USER["id"]},
    },
    "PrincipalBody": {
        "a person": {"subject": "alice", "limit_sends": "100/minute", "budget_money_per_month": "2.5"},
        "a group": {"group": "staff", "budget_tokens_per_day": 0, "limit_reads": None},
    },
    "KeyBody": {"key": {"name": "billing app", "limit_sends": "100/minute", "expires_seconds": 2592000}},
    "ChangeBody": {
        "a webhook": {"webhook_url": "https://example.com/hook"},
        "limits": {"limit_sends": None, "max_running_turns": 3},
    },
    "RotateBody": {"grace": {"grace_seconds": 3600}},
    "ForkBody": {"up to the answer": {"through": _ANSWER_ID}},
    "StopBody": {
        "all of a principal": {"principal": "key.k7f3q9"},
        "one": {"principal": "key.k7f3q9", "turn_id": _TURN_ID},
    },
    "ResponseBody": {
        "background": {"model": _MODEL, "input": _ASKED, "background": True, "stream": True},
        "chained": {"input": "And at night?", "previous_response_id": _RESPONSE_ID},
        "conversation": {"input": [{"role": "user", "content": _ASKED}], "conversation": "my-chat"},
    },
    "ItemsBody": {"message": {"items": [{"role": "user", "content": _ASKED}]}},
    "ConversationBody": {"tagged": {"metadata": {"topic": "the sky"}}},
    "ConversationPatch": {"tagged": {"metadata": {"topic": "the sky"}}},
}

SESSION: Final = {
    "id": "my-chat",
    "title": "The sky",
    "model": _MODEL,
    "system_prompt": None,
    "created": _AT,
    "updated": _AT,
    "turns": 1,
    "active_turn": None,
}
SESSIONS: Final = {"data": [SESSION], "next": None}
_QUESTION: Final = {
    "id": "m_01m82xqzhyhm01djtgpydnpmta",
    "role": "user",
    "content": _ASKED,
    "turn_id": _TURN_ID,
    "state": "completed",
    "created": _AT,
}
_ANSWER: Final = {
    **_QUESTION,
    "id": _ANSWER_ID,
    "role": "assistant",
    "content": _SAID,
    "finish_reason": "stop",
    "model": _MODEL,
    "usage": _TOKENS,
}
MESSAGES: Final = {"data": [_QUESTION, _ANSWER], "next": None}
EXPORT: Final = {"session": SESSION, "messages": [_QUESTION, _ANSWER]}
TURN: Final = {
    "id": _TURN_ID,
    "session_id": "my-chat",
    "state": "completed",
    "attempt": 1,
    "text": _SAID,
    "model": _MODEL,
    "usage": _TOKENS,
    "finish_reason": "stop",
    "cost": {"USD": "0.0000093"},
}
TICKET: Final = {
    "url": f"/v1/sessions/my-chat/turns/{_TURN_ID}/events?ticket=1795395233~-~key.ann~Zk1fVx",
    "expires": 1_795_395_233,
}
MODEL: Final = {
    "id": _MODEL,
    "object": "model",
    "created": 0,
    "owned_by": "OpenAI",
    "active": True,
    "context_window": 131072,
    "max_completion_tokens": 65536,
    "input_modalities": ["text"],
    "capabilities": ["json", "reasoning", "tools"],
    "reasoning_efforts": ["medium", "low", "high"],
    "fallbacks": ["openai/gpt-oss-20b"],
    "aliases": ["llama3-70b-8192"],
    "default": True,
}
MODELS: Final = {"object": "list", "data": [MODEL]}
_ITEM_ID: Final = "msg_01m82xqzhyhm01djtgpydnpmtb_my-chat"
ITEM: Final = {
    "id": _ITEM_ID,
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": _SAID, "annotations": [], "logprobs": []}],
}
ITEMS: Final = {
    "object": "list",
    "data": [ITEM],
    "first_id": _ITEM_ID,
    "last_id": _ITEM_ID,
    "has_more": False,
}
DELETED: Final = {"id": _RESPONSE_ID, "object": "response", "deleted": True}
CONVERSATION: Final = {
    "id": "conv_01m82xqzhyhm01djtgpydnpmtb",
    "object": "conversation",
    "created_at": _AT // 1000,
    "metadata": {"topic": "the sky"},
}
HISTORY_MESSAGES: Final = [
    {**_USER, "parts": [{"type": "text", "text": _ASKED, "state": "done"}], "metadata": {"turnId": _TURN_ID}},
    {
        "id": _ANSWER_ID,
        "role": "assistant",
        "metadata": {
            "turnId": _TURN_ID,
            "state": "completed",
            "finishReason": "stop",
            "model": _MODEL,
            "usage": {"inputTokens": 20, "outputTokens": 9, "totalTokens": 29},
            "createdAt": _AT,
        },
        "parts": [{"type": "text", "text": _SAID, "state": "done"}],
    },
]
LIMITS: Final[dict[str, Any]] = {
    **dict.fromkeys(credentials.LIMITS),
    "limit_sends": "100/minute",
    "budget_money_per_month": "2.5",
}
KEY: Final = {
    "id": "k7f3q9",
    "name": "billing app",
    "owner": None,
    "principal": "key.k7f3q9",
    "scopes": ["chat"],
    "state": "active",
    "created": 1_795_394_633,
    "expires": 1_797_986_633,
    "revoked": None,
    "rotated": None,
    "last_used": None,
    "webhook_url": None,
    **LIMITS,
}
KEYS: Final = {"data": [KEY]}
NEW_KEY: Final = {"key": "chat_k7f3q9_...", **KEY}
OWN_LIMITS: Final = {"id": "jwt.alice", "name": "alice", "issuer": None, **LIMITS}
OWN_LIMITS_LIST: Final = {"object": "list", "data": [OWN_LIMITS]}
CHANGED_KEY: Final = {**KEY, "webhook_url": "https://example.com/hook", "webhook_secret": "whsec_..."}
ROTATED_KEY: Final = {"key": "chat_k7f3q9_...", "id": "k7f3q9"}
USAGE: Final[dict[str, Any]] = {
    "object": "list",
    "data": [{"date": "2026-11-23", "model": _MODEL, **_TOKENS, "turns": 1, "cost": {"USD": "0.0000093"}}],
    "principal": "key.k7f3q9",
    "budgets": {"day": {"limit": 200000, "used": 29, "reserved": 0, "resets_at": 1_795_478_400}},
    "money": {
        "currency": "USD",
        "day": {"limit": None, "used": "0", "reserved": "0", "resets_at": 1_795_478_400},
        "month": {"limit": "2.5", "used": "0.0000093", "reserved": "0", "resets_at": 1_796_083_200},
    },
    "storage": {
        "sessions": {"limit": 20_000, "used": 3},
        "bytes": {"limit": 67_108_864, "used": 9_216},
    },
}
PRINCIPALS: Final = {"object": "list", "data": [{"principal": "key.k7f3q9", "last_used": "2026-11-23"}]}
LIVE_TURNS: Final[dict[str, Any]] = {
    "object": "list",
    "data": [
        {
            "id": _TURN_ID,
            "session_id": "my-chat",
            "principal": "key.k7f3q9",
            "state": "running",
            "model": _MODEL,
            "attempt": 1,
            "age_seconds": 2.4,
            "tokens": 312,
            "worker": "pod-1.17",
        }
    ],
    "total": 1,
}
STOPPED_TURNS: Final = {"object": "list", "stopped": [_TURN_ID]}
GREETING: Final = {"message": "AI Chat Backend is running"}
READY: Final = {"status": "ready", "checks": {"store": "ok", "drain": "ok", "upstream": "ok"}}
UNREADY: Final = {"status": "unready", "checks": {"store": "ok", "drain": "draining", "upstream": "ok"}}
HEALTH: Final = {
    "status": "healthy",
    "service": "ai-chat-backend",
    "version": "1.0.0",
    "env": "production",
    "checks": READY["checks"],
    "store": "redis",
    "upstream": "groq",
    "model": _MODEL,
    "models_unavailable": [],
    "provider_keys": [{"name": "default", "state": "ok"}],
    "turns_running": 3,
}
METRICS: Final = '# TYPE chat_turns_ended_total counter\nchat_turns_ended_total{outcome="completed"} 41.0\n'

SESSION_EVENTS: Final = f"""retry: 1042

event: turn.begun
data: {{"turn_id":"{_TURN_ID}"}}

event: session.changed
data: {{"title":"Blue","model":null,"system_prompt":null,"updated":{_AT},"turns":2,"active_turn":null}}
id: {_AT}41

"""
COPY: Final = {**SESSION, "id": "s_01m82xqzhyhm01djtgpydnpmtc"}
WHOLE: Final[dict[str, Any]] = {
    "object": "export",
    "principal": "key.k7f3q9",
    "created": _AT,
    "usage": USAGE["data"],
    "sessions": [EXPORT],
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

# An answer's log, and what the dialects make of it.
_LOG: Final = [
    Event(number, payload)
    for number, payload in enumerate(
        (
            structured(
                events.STARTED,
                {"turn_id": _TURN_ID, "session_id": "my-chat", "model": _MODEL, "created": _AT},
            ),
            structured(events.ATTEMPT, {"attempt": 1, "model": _MODEL}),
            delta(_SAID[:13]),
            delta(_SAID[13:]),
            structured(events.COMPLETED, {"finish_reason": "stop", "usage": _TOKENS}),
        ),
        start=1,
    )
]


def _encoded(encoder: Encoder) -> str:
    return b"".join(map(encoder.encode, _LOG)).decode()


EVENTS: Final = "retry: 1042\n\n" + _encoded(NativeEncoder())
COMPLETION: Final = orjson.loads(_encoded(CompletionEncoder()))
COMPLETION_CHUNKS: Final = _encoded(StreamEncoder())
RESPONSE: Final = orjson.loads(_encoded(ResponseObject({})))
RESPONSE_EVENTS: Final = _encoded(ResponseStream({}))
UI_CHUNKS: Final = _encoded(AiSdkEncoder(_TURN_ID))
