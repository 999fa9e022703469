"""Images that a body brings: data URLs are taken out of it before its dialect reads it.

Each is decoded, checked and replaced by `image:<digest>`, so that parsers, fingerprints and contexts handle a
short text. Data that is no image is refused here; whether a model takes the image is the engine's. Invariant:
without its images a body has no more bytes than any other body may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi import Request

from service.api import bodies
from service.api.edge import edge_of
from service.api.request_state import request_state
from service.errors import ServiceError
from service.images import Image, decoded, is_data_url
from service.parts import REF

# Images in a body: more than any model takes.
_MOST: Final = 20


async def read(request: Request, *, only_last: bool = False) -> tuple[Any, dict[str, Image]]:
    """The body, and its images by digest; `only_last`: only the images of the newest message.

    Raises what bodies.read_json raises, and image_too_large.
    """
    document = await bodies.read_json(request, images=True)
    settings = edge_of(request).settings
    images: dict[str, Image] = {}
    taken = 0
    newest = f"{_last(document)}." if only_last else ""
    for holder, field, where in _found(document):
        url = holder[field]
        taken += len(url)
        if newest and not where.startswith(newest):
            holder[field] = ""
            continue
        if len(images) == _MOST:
            raise ServiceError("invalid_request", f"A request has more than {_MOST} images.")
        image = await decoded(url, settings.max_image_bytes, where)
        images[image.ref] = image
        holder[field] = f"{REF}{image.ref}"
    if request_state(request).body_bytes - taken > settings.max_body_bytes:
        raise ServiceError("body_too_large", f"The body has more than {settings.max_body_bytes} bytes.")
    return document, images


def _found(document: Any) -> list[tuple[dict[str, Any], str, str]]:
    """Where the user's messages hold data URLs: the object, its field, and the path to it."""
    found = []
    for content, path in _contents(document):
        for i, part in enumerate(content if isinstance(content, list) else ()):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "input_image":
                holder, field, where = part, "image_url", f"{path}[{i}].image_url"
            elif kind == "image_url" and isinstance(part.get("image_url"), dict):
                holder, field, where = part["image_url"], "url", f"{path}.{i}.image_url.url"
            elif kind == "image_url":  # some clients write the URL itself
                holder, field, where = part, "image_url", f"{path}.{i}.image_url"
            elif kind in ("image", "file"):
                holder, field, where = part, "url", f"{path}.{i}.url"
            else:
                continue
            url = holder.get(field)
            if isinstance(url, str) and is_data_url(url):
                found.append((holder, field, where))
    return found


def _contents(document: Any) -> Iterator[tuple[Any, str]]:
    """The contents of the user's messages, whatever the dialect, with their paths."""
    if not isinstance(document, dict):
        return
    yield document.get("content"), "content"
    edit, messages = document.get("edit"), document.get("messages")
    if isinstance(edit, dict):
        yield edit.get("content"), "edit.content"
    for i, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict) and message.get("role") == "user":
            yield message.get("content"), f"messages.{i}.content"
            yield message.get("parts"), f"messages.{i}.parts"
    for field in ("input", "items"):
        items = document.get(field)
        for i, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict) and item.get("role") == "user":
                yield item.get("content"), f"{field}[{i}].content"


def _last(document: Any) -> str:
    """The path of the newest message of the user."""
    paths = [path for _, path in _contents(document) if path.startswith("messages.")]
    return paths[-1].rpartition(".")[0] if paths else "messages"
