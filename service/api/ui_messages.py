"""Messages of the history in the form of useChat (Vercel's AI SDK), equal to what its stream builds."""

from __future__ import annotations

from typing import Any

from service import parts as made_of
from service.dialects.aisdk import ended_metadata, given_input, given_output
from service.parts import Part
from service.store.messages import Message


def ui_message(message: Message, images: str) -> dict[str, Any]:
    """An answer's id equals its `start.messageId`. `images` is the path below which the session's images are.

    An answer without any part gets an empty one: validateUIMessages of AI SDK 6.0.0 and 7.0.0
    throws for a message without any.
    """
    whole = message.whole
    parts = _rounds(whole) if any(part["type"] == made_of.CALL for part in whole) else _words(whole, images)
    parts = parts or [{"type": "text", "text": "", "state": "done"}]
    found: dict[str, Any] = {"id": message.id, "role": message.role, "parts": parts}
    if message.turn_id:
        found["metadata"] = {"turnId": message.turn_id}
    if message.role == "assistant" and message.model:
        told = ended_metadata(message.state, message.finish_reason, message.model, message.usage)
        found["metadata"] |= {**told, "createdAt": message.begun or message.created}
    return found


def _words(parts: list[Part], images: str = "") -> list[dict[str, Any]]:
    found = []
    for part in parts:
        if part["type"] == made_of.IMAGE:
            url = part["url"] if "url" in part else f"{images}/{part['ref']}"
            found.append({"type": "file", "mediaType": part.get("media_type", "image/*"), "url": url})
        elif text := part.get("text"):
            kind = "reasoning" if part["type"] == made_of.REASONING else "text"
            found.append({"type": kind, "text": text, "state": "done"})
    return found


def _rounds(parts: list[Part]) -> list[dict[str, Any]]:
    """Each round is a step, as in a stream; a tool's part has its call and its result."""
    found: list[dict[str, Any]] = []
    for one in made_of.rounds(parts):
        results = {part["tool_call_id"]: part for part in one if part["type"] == made_of.RESULT}
        found += [{"type": "step-start"}, *_words(one)]
        found += [_tool(call, results.get(call["id"])) for call in one if call["type"] == made_of.CALL]
    return found


def _tool(call: Part, result: Part | None) -> dict[str, Any]:
    part = {
        "type": f"tool-{call['name']}",
        "toolCallId": call["id"],
        "state": "input-available",
        "input": given_input(call["arguments"]),
    }
    if result is None:
        return part
    if result.get("is_error"):
        return {**part, "state": "output-error", "errorText": result["content"]}
    return {**part, "state": "output-available", "output": given_output(result)}
