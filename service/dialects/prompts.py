"""The system prompt that a session may keep, of whichever dialect it comes.

It is kept beside the session and shown in every list of sessions, so its bound is smaller than
that of a body. A prompt that is for one call only (OpenAI's messages) is bound by the model.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StrictStr

from service.dialects.base import at_most, bytes_of

#: Characters: some 16,000 tokens, an eighth of what the largest models take.
LONGEST_SYSTEM_PROMPT: Final = 65_536
#: Bytes in UTF-8: two per character, which all scripts of Europe and the Near East take.
MOST_BYTES: Final = 131_072

SystemPrompt = Annotated[StrictStr, Field(max_length=LONGEST_SYSTEM_PROMPT), at_most(MOST_BYTES)]


def kept(text: str | None) -> str | None:
    """What a session keeps of a prompt that is for one call: all of it, or nothing where it is too long."""
    if text is None or len(text) > LONGEST_SYSTEM_PROMPT or bytes_of(text) > MOST_BYTES:
        return None
    return text
