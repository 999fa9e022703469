"""The context of a turn: what of the history is sent to the model, and how many tokens it is.

Invariants: the system prompt and the newest user message are always there, no message is cut,
the order is the history's. Trimming drops from the front in big steps, so that the prefix (and
the provider's prompt cache) stays the same for many turns. The same turn gives the same context
again after a takeover.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from service.engine.sends import Send
from service.errors import ServiceError
from service.store.sessions import Message, Session, Sessions
from service.store.turns import Turn, TurnRef
from service.upstream.models import Model

DEFAULT_SYSTEM_PROMPT: Final = "You are a helpful AI assistant."

# Chat templates wrap every message in a few tokens (o200k_harmony: 4) and prime the answer.
_PER_MESSAGE: Final = 4
_PRIMING: Final = 16
# A position behind all messages.
_END: Final = 2**53
# The position of a session's first question: nothing is before it.
_FIRST: Final = 2
# History per round trip. A token is 4 bytes or so, and a short message as much again for its form: what
# comes in one page is hardly more than what fits, and never blocks Redis for as long as a millisecond.
_PAGE: Final = 128
_BYTES_PER_TOKEN: Final = 5
_PAGE_BYTES: Final = 262_144
# So much more is read at once: a message that does not fit costs less than asking for what is missing.
_SPARE_BYTES: Final = 4_096
# Trimming starts at a position divisible by the largest of these that keeps half the room used.
_STEPS: Final = (64, 32, 16, 8, 4, 2)


class Tokens:
    """Counts tokens: by a real tokenizer where the extra `tokens` is installed, else estimated.

    The estimate is corrected by what the provider reports (a moving mean of the ratio).
    """

    def __init__(self) -> None:
        self._count = _tokenizer()
        self._ratio = 1.0

    def count(self, text: str) -> int:
        if self._count is not None:
            return self._count(text)
        # 4 characters per token fit English; 4 bytes fit scripts that o200k knows less well.
        return int(max(len(text), len(text.encode()) * 0.75) / 4 * self._ratio) + 1

    def message(self, content: str) -> int:
        return self.count(content) + _PER_MESSAGE

    def learn(self, estimated: int, reported: int) -> None:
        """Correct later estimates by a fifth of what this one was off, within sound bounds."""
        if self._count is None and estimated > 50 and reported > 0:
            self._ratio *= 1 + 0.2 * (reported / estimated - 1)
            self._ratio = min(3.0, max(0.5, self._ratio))


def _tokenizer() -> Callable[[str], int] | None:
    try:
        from rs_bpe import openai
    except ImportError:
        return None
    count: Callable[[str], int] = openai.o200k_base().count
    return count


@dataclass(frozen=True, slots=True)
class Context:
    messages: list[dict[str, Any]]
    prompt_tokens: int


class Contexts:
    def __init__(self, sessions: Sessions, tokens: Tokens) -> None:
        self._sessions = sessions
        self._tokens = tokens

    def completion_of(self, model: Model, params: dict[str, Any]) -> int:
        """Tokens asked for. Groq reserves them against its limits, so no more than useful."""
        asked = params.get("max_completion_tokens")
        return min(int(asked), model.max_completion_tokens) if asked else model.default_completion

    def room(self, model: Model, params: dict[str, Any]) -> int:
        """Tokens that a prompt may have."""
        return model.context_window - self.completion_of(model, params) - _PRIMING

    def check(
        self, model: Model, params: dict[str, Any], system: str, content: str,
        messages: list[dict[str, Any]] | None = None,
    ) -> int:  # fmt: skip
        """Tokens of the smallest context there is. Raises context_too_long where it never fits."""
        if messages is not None:
            what, smallest = "conversation", self.explicit(messages)
        else:
            what, smallest = "message", self._tokens.message(system) + self._tokens.message(content)
        if smallest > self.room(model, params):
            raise ServiceError(
                "context_too_long",
                f"The {what} has about {smallest} tokens; with the room for the answer the model takes "
                f"{max(0, self.room(model, params))}.",
            )
        return smallest

    def explicit(self, messages: list[dict[str, Any]]) -> int:
        """Tokens of a context that the caller gave as a whole; it is sent as it is or refused."""
        tokens = 0
        for message in messages:
            tokens += self._tokens.message(str(message.get("content") or ""))
            for call in message.get("tool_calls", ()):
                tokens += self._tokens.message(str(call["function"]["arguments"]))
        return tokens

    async def build(self, turn: Turn, model: Model) -> Context:
        if "messages" in turn.params:
            given = turn.params["messages"]
            return Context(given, self.explicit(given) + _PRIMING)
        system = turn.params.get("system") or DEFAULT_SYSTEM_PROMPT
        question = turn.question or await self._question(turn)
        used = self._tokens.message(system) + self._tokens.message(question)
        room = self.room(model, turn.params) - used
        chosen, history = await self._window(turn.ref, turn.pos - 1, room)
        messages = [
            {"role": "system", "content": system},
            *({"role": message.role, "content": message.content} for message in chosen),
            {"role": "user", "content": question},
        ]
        return Context(messages, used + history + _PRIMING)

    async def _question(self, turn: Turn) -> str:
        message = await self._sessions.message(turn.ref.principal, turn.ref.session_id, turn.user)
        if message is None:
            raise ServiceError("session_not_found", "The session was deleted.")
        return message.content

    async def estimate(
        self, send: Send, ref: TurnRef, session: Session | None, model: Model, params: dict[str, Any]
    ) -> int:
        """Tokens of the context that a send will have, or a little more, before it has begun."""
        if send.messages is not None:
            return self.explicit(send.messages) + _PRIMING
        used = self._tokens.message(params["system"]) + self._tokens.message(send.content) + _PRIMING
        used += sum(self._tokens.message(seed["content"]) for seed in send.seeds)
        if session is not None:
            used += (await self._window(ref, _END, self.room(model, params) - used))[1]
        return used

    async def _window(self, ref: TurnRef, position: int, room: int) -> tuple[list[Message], int]:
        """The newest messages below a position that fit, oldest first, and their tokens."""
        found: list[_Placed] = []  # newest first
        used = 0
        more = position > _FIRST
        while more:
            size = min(_PAGE_BYTES, max(0, room - used) * _BYTES_PER_TOKEN + _SPARE_BYTES)
            page, more = await self._sessions.window(ref.principal, ref.session_id, position, _PAGE, size)
            for message, place in page:
                tokens = self._tokens.message(message.content)
                if used + tokens > room:
                    return _trim(found, room)
                used += tokens
                found.append(_Placed(message, place, tokens))
            position = found[-1].place if found else position
        return _answered(found), used


@dataclass(frozen=True, slots=True)
class _Placed:
    """A message with its position: even for a question, the odd one after it for its answer."""

    message: Message
    place: int
    tokens: int


def _trim(found: list[_Placed], room: int) -> tuple[list[Message], int]:
    """Begin at a round position: the front then moves once in many turns, not in each."""
    kept = found
    for step in _STEPS:
        starts = [i for i, item in enumerate(found) if item.place % step == 0]
        if starts:
            candidate = found[: starts[-1] + 1]
            if sum(item.tokens for item in candidate) >= room // 2:
                kept = candidate
                break
    messages = _answered(kept)
    while messages and messages[0].role == "assistant":
        messages.pop(0)
    return messages, sum(item.tokens for item in kept)


def _answered(found: list[_Placed]) -> list[Message]:
    """Oldest first, without the questions of turns that ended without text (seeds stay)."""
    answers = {item.place for item in found if item.message.role == "assistant" and item.message.content}
    return [
        item.message
        for item in reversed(found)
        if not item.message.turn_id
        or (item.place in answers if item.message.role == "assistant" else item.place + 1 in answers)
    ]
