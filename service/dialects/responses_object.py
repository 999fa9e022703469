"""OpenAI's Response: its ids, its items and the object, from a turn or from what its log says.

An id carries its session and turn, so that no index is needed: `resp_<turn>_<session>`, and the same for
answers (`msg_`), reasoning (`rs_`), function calls (`fc_`) and their outputs (`fco_`). The second and later
ones of a turn have a number: `fc_<turn>.1_<session>`. Ids are found within their principal only. The object
always has all fields, null where nothing is known, since strict clients need that. No I/O here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from service.dialects.errors import of_responses
from service.errors import ServiceError
from service.parts import Part
from service.usage import detail

Kind = Literal["resp", "msg", "rs", "fc", "fco"]
#: The type of an item with the output of a function.
OUTPUT: Final = "function_call_output"
_ID: Final = re.compile(
    r"(resp|msg|rs|fco|fc)_([0-9a-z]{26})(?:\.[0-9]{1,4})?_([A-Za-z0-9_.:-]{1,128})", re.ASCII
)

# Our finish reasons that end an answer early, and OpenAI's word for why.
INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
# OpenAI's types allow these codes only; our own code is in `type`.
_CODES: Final = {
    "upstream_rate_limited": "rate_limit_exceeded",
    "context_length_exceeded": "invalid_prompt",
    "upstream_rejected": "invalid_prompt",
}


@dataclass(frozen=True, slots=True)
class Named:
    """What an id of ours names."""

    kind: str
    turn_id: str
    session_id: str


def public_id(kind: Kind, session_id: str, turn_id: str, number: int = 0) -> str:
    which = f".{number}" if number else ""
    return f"{kind}_{turn_id.removeprefix('t_')}{which}_{session_id}"


def named(value: str) -> Named | None:
    """What an id names, if it is one of ours."""
    found = _ID.fullmatch(value)
    return Named(found[1], f"t_{found[2]}", found[3]) if found else None


def message_item(item_id: str, role: str, text: str, status: str = "completed") -> dict[str, Any]:
    part: dict[str, Any]
    if role == "assistant":
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    else:
        part = {"type": "input_text", "text": text}
    return {"id": item_id, "type": "message", "status": status, "role": role, "content": [part]}


def reasoning_item(item_id: str, text: str, status: str = "completed") -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}]
    return {"id": item_id, "type": "reasoning", "summary": summary, "status": status}


def call_item(item_id: str, call: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    """`call`: a tool call as chat completions have it."""
    function = call.get("function") or {}
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call.get("id") or item_id,
        "name": function.get("name") or "",
        "arguments": function.get("arguments") or "",
        "status": status,
    }


def output_item(item_id: str, result: Part) -> dict[str, Any]:
    """`result`: a part of type tool_result."""
    return {
        "id": item_id,
        "type": OUTPUT,
        "call_id": result["tool_call_id"],
        "output": result["content"],
        "status": "completed",
    }


def usage(told: dict[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "input_tokens": told["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": detail(told, "cached_tokens"), "cache_write_tokens": 0},
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": detail(told, "reasoning_tokens")},
        "total_tokens": told["total_tokens"],
    }


def failure(error: ServiceError) -> dict[str, Any]:
    """`response.error`."""
    error = of_responses(error)
    return {"code": _CODES.get(error.code, "server_error"), "message": error.message, "type": error.code}


@dataclass(frozen=True, slots=True)
class Ending:
    """The status of a response; `item_status` is that of an item which was still being written."""

    status: str = "in_progress"
    item_status: str = "in_progress"
    incomplete: str | None = None
    error: dict[str, Any] | None = None

    @classmethod
    def of(cls, state: str, finish_reason: str | None, error: ServiceError | None = None) -> Ending:
        if state == "failed":
            error = error or ServiceError("internal", "The answer failed.")
            return cls("failed", "incomplete", error=failure(error))
        if state == "stopped":
            return cls("cancelled", "incomplete")
        if state != "completed":
            return cls("queued" if state == "queued" else "in_progress")
        if finish_reason in INCOMPLETE:
            return cls("incomplete", "incomplete", INCOMPLETE[finish_reason])
        return cls("completed", "completed")


class Head:
    """What all objects of one response have in common. `echo` is what it repeats of its request."""

    def __init__(self, session_id: str, turn_id: str, created: int, model: str, echo: dict[str, Any]) -> None:
        self.session_id = session_id
        self.turn_id = turn_id
        self.echo = echo
        self._id = public_id("resp", session_id, turn_id)
        self._created = created // 1000
        self._model = model

    def item_id(self, kind: Kind, number: int = 0) -> str:
        return public_id(kind, self.session_id, self.turn_id, number)

    def object(
        self,
        ending: Ending,
        output: list[dict[str, Any]],
        told: dict[str, Any] | None = None,
        completed_at: int | None = None,
    ) -> dict[str, Any]:
        echo = self.echo
        conversation = echo.get("conversation")
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": completed_at,
            "status": ending.status,
            "background": echo.get("background", False),
            "error": ending.error,
            "incomplete_details": {"reason": ending.incomplete} if ending.incomplete else None,
            "instructions": echo.get("instructions"),
            "max_output_tokens": echo.get("max_output_tokens"),
            "max_tool_calls": None,
            "model": self._model,
            "output": output,
            "conversation": {"id": conversation} if conversation else None,
            "parallel_tool_calls": echo.get("parallel_tool_calls", True),
            "previous_response_id": echo.get("previous_response_id"),
            "prompt_cache_key": echo.get("prompt_cache_key"),
            "reasoning": echo.get("reasoning"),
            "safety_identifier": echo.get("safety_identifier"),
            "service_tier": "default",
            "store": echo.get("store", True),
            "temperature": echo.get("temperature", 1.0),
            "top_p": echo.get("top_p", 1.0),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "text": {"format": echo.get("format") or {"type": "text"}},
            "tool_choice": echo.get("tool_choice", "auto"),
            "tools": echo.get("tools", []),
            "truncation": echo.get("truncation", "disabled"),
            "usage": usage(told),
            "user": echo.get("user"),
            "metadata": echo.get("metadata", {}),
        }


def shows_reasoning(echo: dict[str, Any]) -> bool:
    return bool((echo.get("reasoning") or {}).get("summary"))
