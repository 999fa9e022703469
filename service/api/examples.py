"""Examples of the OpenAPI document: one request and one answer of each kind, as they are on the wire."""

from __future__ import annotations

from typing import Any, Final

_TURN_ID: Final = "t_01m82xqzhyhm01djtgpydnpmtb"
ANSWER_ID: Final = "m_01m82xqzhyhm01djtgpydnpmtb"
_AT: Final = 1_795_394_633_123
_MODEL: Final = "openai/gpt-oss-120b"
_ASKED: Final = "Why is the sky blue?"
_SAID: Final = "Blue light is scattered most."
_TOKENS: Final = {"prompt_tokens": 22, "completion_tokens": 7, "total_tokens": 29}

CHAT_BODIES: Final = {
    "question": {"user_query": _ASKED},
    "continued": {"user_query": "And at night?", "session_id": "my-chat", "temperature": 0.2},
}
CHAT_WITH_HISTORY_BODIES: Final = {
    "seeded": {
        "user_query": "And at night?",
        "system_prompt": "You are a patient teacher.",
        "history": [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _SAID}],
    }
}
SESSION_BODIES: Final = {"named": {"id": "my-chat", "title": "The sky", "model": _MODEL}, "made": {}}
SESSION_PATCHES: Final = {
    "title": {"title": "Colours"},
    "away": {"system_prompt": None},
    "back": {"version": "v_2"},
}
TURN_BODIES: Final[dict[str, Any]] = {
    "message": {"content": _ASKED, "params": {"reasoning_effort": "low"}, "on_busy": "queue"},
    "regenerate": {"regenerate": True},
    "edit": {"edit": {"message_id": "m_01m82xqzhyhm01djtgpydnpmta", "content": "Why is the sea blue?"}},
}
COMPLETION_BODIES: Final = {
    "stream": {"model": _MODEL, "messages": [{"role": "user", "content": _ASKED}], "stream": True},
    "whole": {"messages": [{"role": "user", "content": _ASKED}]},
}
_USER: Final = {"id": "u4MkTnLmVz1xK9Qs", "role": "user", "parts": [{"type": "text", "text": _ASKED}]}
USE_CHAT_BODIES: Final = {
    "submit": {"id": "my-chat", "messages": [_USER], "trigger": "submit-message"},
    "regenerate": {"id": "my-chat", "messages": [_USER], "trigger": "regenerate-message"},
    "edit": {"id": "my-chat", "messages": [_USER], "trigger": "submit-message", "messageId": _USER["id"]},
}
KEY_BODIES: Final = {"key": {"name": "billing app", "limit_sends": "100/minute", "expires_seconds": 2592000}}
ROTATE_BODIES: Final = {"grace": {"grace_seconds": 3600}}

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
    "id": ANSWER_ID,
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
COMPLETION: Final = {
    "id": f"chatcmpl-{_TURN_ID}",
    "object": "chat.completion",
    "created": _AT // 1000,
    "model": _MODEL,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": _SAID},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": _TOKENS,
    "x_groq": {"id": f"req_{_TURN_ID}"},
}
_RESPONSE_ID: Final = "resp_01m82xqzhyhm01djtgpydnpmtb_my-chat"
_ITEM_ID: Final = "msg_01m82xqzhyhm01djtgpydnpmtb_my-chat"
RESPONSE_BODIES: Final[dict[str, Any]] = {
    "background": {"model": _MODEL, "input": _ASKED, "background": True, "stream": True},
    "chained": {"input": "And at night?", "previous_response_id": _RESPONSE_ID},
    "conversation": {"input": [{"role": "user", "content": _ASKED}], "conversation": "my-chat"},
}
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
ITEM_BODIES: Final = {"message": {"items": [{"role": "user", "content": _ASKED}]}}
CONVERSATION_BODIES: Final = {"tagged": {"metadata": {"topic": "the sky"}}}
CONVERSATION: Final = {
    "id": "conv_01m82xqzhyhm01djtgpydnpmtb",
    "object": "conversation",
    "created_at": _AT // 1000,
    "metadata": {"topic": "the sky"},
}
RESPONSE: Final = {
    "id": _RESPONSE_ID,
    "object": "response",
    "created_at": _AT // 1000,
    "completed_at": None,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": _MODEL,
    "output": [ITEM],
    "conversation": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "truncation": "disabled",
    "user": None,
    "metadata": {},
    "usage": {
        "input_tokens": 22,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 29,
    },
}
HISTORY_MESSAGES: Final = [
    {**_USER, "parts": [{"type": "text", "text": _ASKED, "state": "done"}], "metadata": {"turnId": _TURN_ID}},
    {
        "id": ANSWER_ID,
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
_KEY: Final = {
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
    "limit_sends": "100/minute",
    "limit_reads": None,
    "budget_tokens_per_minute": None,
    "budget_tokens_per_day": None,
    "budget_tokens_per_month": None,
    "budget_money_per_day": None,
    "budget_money_per_month": "2.5",
    "max_running_turns": None,
}
KEYS: Final = {"data": [_KEY]}
NEW_KEY: Final = {"key": "chat_k7f3q9_...", **_KEY}
ROTATED_KEY: Final = {"key": "chat_k7f3q9_...", "id": "k7f3q9"}
USAGE: Final = {
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
LIVE_TURNS: Final = {
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
STOP_TURNS_BODIES: Final = {
    "all of a principal": {"principal": "key.k7f3q9"},
    "one": {"principal": "key.k7f3q9", "turn_id": _TURN_ID},
}
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

EVENTS: Final = f"""retry: 1042

event: turn.started
data: {{"turn_id":"{_TURN_ID}","session_id":"my-chat","model":"{_MODEL}","created":{_AT}}}
id: 1

event: attempt.started
data: {{"attempt":1,"model":"{_MODEL}"}}
id: 2

event: delta
data: {{"text":"Blue light is"}}
id: 3

event: delta
data: {{"text":" scattered most."}}
id: 4

event: turn.completed
data: {{"finish_reason":"stop","usage":{{"prompt_tokens":22,"completion_tokens":7,"total_tokens":29}}}}
id: 5

"""
SESSION_EVENTS: Final = f"""retry: 1042

event: turn.begun
data: {{"turn_id":"{_TURN_ID}"}}

event: session.changed
data: {{"title":"Blue","model":null,"system_prompt":null,"updated":{_AT},"turns":2,"active_turn":null}}
id: {_AT}41

"""
_HEAD: Final = (
    f'"id":"chatcmpl-{_TURN_ID}","object":"chat.completion.chunk","created":{_AT // 1000},"model":"{_MODEL}"'
)
_NEXT: Final = '"logprobs":null,"finish_reason":null'
_ROLE: Final = '{"role":"assistant","content":""}'
COMPLETION_CHUNKS: Final = f"""data: {{{_HEAD},"choices":[{{"index":0,"delta":{_ROLE},{_NEXT}}}]}}

data: {{{_HEAD},"choices":[{{"index":0,"delta":{{"content":"Blue light."}},{_NEXT}}}]}}

data: {{{_HEAD},"choices":[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}]}}

data: [DONE]

"""
RESPONSE_EVENTS: Final = f"""event: response.output_text.delta
data: {{"type":"response.output_text.delta","item_id":"{_ITEM_ID}","output_index":0,"content_index":0,\
"logprobs":[],"delta":"Blue light","sequence_number":50}}

data: [DONE]

"""
UI_CHUNKS: Final = f"""data: {{"type":"start","messageId":"{ANSWER_ID}"}}
id: {_TURN_ID}.1.0

data: {{"type":"start-step"}}
id: {_TURN_ID}.1.1

data: {{"type":"text-start","id":"text-3"}}
id: {_TURN_ID}.3.0

data: {{"type":"text-delta","id":"text-3","delta":"Blue light."}}
id: {_TURN_ID}.3.1

data: {{"type":"text-end","id":"text-3"}}
id: {_TURN_ID}.4.0

data: {{"type":"finish-step"}}
id: {_TURN_ID}.4.1

data: {{"type":"finish","finishReason":"stop"}}
id: {_TURN_ID}.4.2

data: [DONE]
id: {_TURN_ID}.4.3

"""
