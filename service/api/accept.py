"""Which form of an answer a client prefers, and which it has: `Accept`, `Prefer`, `If-None-Match`."""

from __future__ import annotations

from fastapi import Request


def quality(header: str, wanted: str) -> float:
    """The q of a media type or an encoding in an Accept header; the most specific range counts."""
    ranges = {wanted: 3, f"{wanted.partition('/')[0]}/*": 2, "*/*": 1, "*": 1}
    best, found = 0, 0.0
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if ranges.get(name, 0) > best:
            best, found = ranges[name], _weight(parameters)
    return found


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def json_before_events(header: str) -> bool:
    """Does an Accept header prefer JSON? At equal q the first name counts; none, and `*/*`, mean events."""
    json, events = quality(header, "application/json"), quality(header, "text/event-stream")
    if json != events or not json:
        return json > events
    named = [part.partition(";")[0].strip() for part in header.lower().split(",")]
    return [name for name in named if name in ("application/json", "text/event-stream", "*/*")][:1] == [
        "application/json"
    ]


def responds_async(header: str) -> bool:
    """Does `Prefer` have the preference `respond-async`, whatever its parameters?"""
    return "respond-async" in (part.partition(";")[0].strip().lower() for part in header.split(","))


def has_already(request: Request, etag: str) -> bool:
    """Does the client have the content with this ETag? Then the answer is 304."""
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    return etag in known or "*" in known
