"""The system prompt that a session may keep, of whichever dialect it comes.

It is kept beside the session and shown in every list of sessions, so its bound is smaller than
that of a body. A prompt that is for one call only (OpenAI's messages) is bound by the model.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StrictStr

#: Characters: some 16,000 tokens, an eighth of what the largest models take.
LONGEST_SYSTEM_PROMPT: Final = 65_536

SystemPrompt = Annotated[StrictStr, Field(max_length=LONGEST_SYSTEM_PROMPT)]


def kept(text: str | None) -> str | None:
    """What a session keeps of a prompt that is for one call: all of it, or nothing where it is too long."""
    return text if text is None or len(text) <= LONGEST_SYSTEM_PROMPT else None
