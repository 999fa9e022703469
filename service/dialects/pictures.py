"""Images in a user's message: OpenAI's `image_url` parts, native `image` parts, the AI SDK's files.

Data URLs were replaced in the body before (api/uploads.py): here an image is named by its digest, or by an
https URL, which is passed on and never fetched.
"""

from __future__ import annotations

import re
from typing import Any, Final

from service import ids, parts
from service.dialects.base import invalid, query, unsupported
from service.engine.sends import Send
from service.errors import ServiceError
from service.parts import REF, Part

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# Our own address of an image (api/routes/images.py); pages that have read the history send it back.
_OURS: Final = re.compile(r"/v1/sessions/[^/]+/images/([0-9a-f]{64})$")
_LONGEST_URL: Final = 2_048
_WEB: Final = re.compile(r"https://[^/?#]", re.IGNORECASE)


def image(url: Any, where: str, media_type: str = "") -> Part:
    """Raises invalid_request."""
    if isinstance(url, str):
        if url.startswith(REF) and _DIGEST.fullmatch(url[len(REF) :]):
            return parts.image(url, media_type)
        if ours := _OURS.search(url):
            return parts.image(f"{REF}{ours[1]}", media_type)
        if _WEB.match(url) and len(url) <= _LONGEST_URL and " " not in url and not ids.has_control(url):
            return parts.image(url, media_type)
    raise invalid(where, "has to be a data URL of an image, or an https URL.")


def said(content: list[Any], where: str) -> list[Part]:
    """The parts of a list of parts: texts and images. Raises invalid_request, unsupported_parameter."""
    found: list[Part] = []
    for i, part in enumerate(content):
        place = f"{where}.{i}"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            if not isinstance(part.get("text"), str):
                raise ServiceError("invalid_request", f"{place}.text: has to be a text.", param=place)
            found.append({"type": parts.TEXT, "text": part["text"]})
        elif kind == "image_url":
            given = part.get("image_url")
            found.append(image(given.get("url") if isinstance(given, dict) else given, place))
        elif kind == "image":
            found.append(image(f"{REF}{part['ref']}" if "ref" in part else part.get("url"), place))
        else:
            raise unsupported(place, f"{place}: only parts of text and images are supported.")
    return found


def ask(send: Send, message: parts.Chat, field: str) -> None:
    """Make a chat message of the user the question of a send. Raises query_empty."""
    content = message["content"]
    if isinstance(content, list):
        [question] = parts.folded([message])
        send.content, send.parts = question["content"], question["parts"]
    else:
        send.content = query(content, field)


def text_of(found: list[Part]) -> str:
    return "".join(part["text"] for part in found if part["type"] == parts.TEXT)


def pictured(found: list[Part]) -> bool:
    return any(part["type"] == parts.IMAGE for part in found)
