"""Which structured answers (JSON) are streamed: by the catalogue, and by what the provider has refused since.

A model that refuses to stream a format, or to give it in one piece, is asked the other way for an hour; then
the catalogue counts again. Bounded by the catalogue's models and the formats there are.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import Any, Final

from service.telemetry.logs import get_logger
from service.upstream.models import FORMATS, Model

_SECONDS: Final = 3_600.0
# As in "`response_format` does not support streaming", but not in "stream_options".
_ABOUT_STREAMS: Final = re.compile(r"\bstream(?:s|ed|ing)?\b", re.IGNORECASE)

log = get_logger(__name__)


class Formats:
    def __init__(self) -> None:
        # (model, format) -> is it streamed, and until when that holds
        self._learned: dict[tuple[str, str], tuple[bool, float]] = {}

    def streams(self, model: Model, params: dict[str, Any]) -> bool:
        name = _format(params)
        if name is None:
            return True
        streams, until = self._learned.get((model.id, name), (False, 0.0))
        return streams if monotonic() < until else name not in model.whole_formats

    def refused(self, model: Model, params: dict[str, Any], reason: str, *, whole: bool) -> bool:
        """Was a call refused because it was streamed, or was not? Then the next is asked the other way."""
        name = _format(params)
        if name is None or not _ABOUT_STREAMS.search(reason):
            return False
        self._learned[model.id, name] = (whole, monotonic() + _SECONDS)
        log.warning(
            "format.learned",
            model=model.id,
            format=name,
            streams=whole,
            seconds=_SECONDS,
            note="the models' file says otherwise: see whole_formats",
        )
        return True


def _format(params: dict[str, Any]) -> str | None:
    name = (params.get("response_format") or {}).get("type")
    return name if name in FORMATS else None
