"""The content of an input item of /v1/responses: a text, or a list of parts, texts and a user's images.

Data URLs were replaced in the body before (api/uploads.py). Items are responses_request.py's.
"""

from __future__ import annotations

from typing import Any, Final

from service.dialects import pictures
from service.dialects.base import invalid, unsupported
from service.parts import TEXT, Part

# Types of parts that are text, and the field of the text.
_TEXTS: Final = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def text_of(content: Any, where: str) -> str:
    """Raises invalid_request, unsupported_parameter."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(where, "has to be a text or a list of parts.")
    return "".join([_text(part, f"{where}[{i}]") for i, part in enumerate(content)])


def pictured(content: Any, where: str) -> list[Part]:
    """The parts of a user's message with images; [] for any other.

    An image's `detail` has no effect, since models here have no such setting. Raises as `text_of`.
    """
    given = content if isinstance(content, list) else []
    if not any(_is_image(part) for part in given):
        return []
    found: list[Part] = []
    for i, part in enumerate(given):
        place = f"{where}[{i}]"
        if not _is_image(part):
            found.append({"type": TEXT, "text": _text(part, place)})
        elif part.get("file_id") is not None:
            name = f"{place}.file_id"
            raise unsupported(name, f"{name}: no files are kept; give image_url.")
        else:
            found.append(pictures.image(part.get("image_url"), f"{place}.image_url"))
    return found


def _is_image(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "input_image"


def _text(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    name = _TEXTS.get(kind) if isinstance(kind, str) else None
    if name is None:
        where = f"{where}.type"
        raise unsupported(where, f"{where}: has to be of text, or an image of the user's.")
    if not isinstance(part.get(name), str):
        raise invalid(f"{where}.{name}", "has to be a string.")
    text: str = part[name]
    return text
