"""Images of a session, for its owner only, by the digests that parts of messages name."""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter, Request, Response

from service.api.accept import has_already
from service.api.edge import admitted
from service.api.operation import OF_SESSION, Answer, documented
from service.errors import ServiceError
from service.images import size_of

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

_REF: Final = re.compile(r"[0-9a-f]{64}")
# The bytes behind a digest never change; a caller that may not see them any more has seen them already.
_CACHED: Final = ("ETag", "Cache-Control")
_HEADERS: Final = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@router.get("/{session_id}/images/{image}", summary="An image of the session")
@documented(
    {
        200: Answer("The image", {"image/*": (None, "...")}, _CACHED),
        304: Answer("The caller has it", {}, _CACHED),
    },
    *OF_SESSION,
    "not_found",
    parameters=("If-None-Match",),
)
async def get_image(request: Request, session_id: str, image: str) -> Response:
    edge, principal = await admitted(request)
    await edge.engine.history.existing(principal.id, session_id)
    data = None
    if _REF.fullmatch(image):
        data = await edge.engine.history.image(principal.id, session_id, image)
    size = size_of(data) if data else None
    if data is None or size is None:
        raise ServiceError("not_found", "There is no such image in this session.")
    headers = {**_HEADERS, "ETag": f'"{image}"'}
    if has_already(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=f"image/{size.kind}", headers=headers)
