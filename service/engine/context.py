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

import orjson

from service.engine.sends import Send
from service.errors import ServiceError
from service.store.messages import Page, Said
from service.store.send_admission import SessionSnapshot
from service.store.sessions import Sessions
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import Model

DEFAULT_SYSTEM_PROMPT: Final = "You are a helpful AI assistant."

# Chat templates wrap every message in a few tokens (o200k_harmony: 4) and prime the answer.
_PER_MESSAGE: Final = 4
_PRIMING: Final = 16
# Shorter prompts tell more of the template, which models wrap around them, than of the text.
_TELLING: Final = 500
# Principals whose ratio a worker remembers, some 150 bytes each; a forgotten one begins again at 1.
_KNOWN_PRINCIPALS: Final = 4_096
# A place behind all messages.
_END: Final = 2**53
# The place of a session's first question: nothing is before it.
_FIRST: Final = 2
# History per round trip. A token is 4 bytes or so, and a short message as much again for its form: what
# comes in one page is hardly more than what fits, and never blocks Redis for as long as a millisecond.
_PAGE: Final = 128
_BYTES_PER_TOKEN: Final = 5
_PAGE_BYTES: Final = 262_144
# So much more is read at once: a message that does not fit costs less than asking for what is missing.
_SPARE_BYTES: Final = 4_096
# Messages and bytes that a send sees of its session before its model is known: a dozen exchanges, which is
# all of most chats, and 0.1 ms of Redis. What a model takes beyond them is read afterwards.
PREVIEW: Final = (_PAGE, 16_384)
# Trimming starts at a place divisible by the largest of these that keeps half the room used.
_STEPS: Final = (64, 32, 16, 8, 4, 2)


class Counter:
    """Counts tokens of one caller's texts: exactly with a tokenizer, else by length times `ratio`."""

    __slots__ = ("_exact", "_ratio")

    def __init__(self, exact: Callable[[str], int] | None, ratio: float) -> None:
        self._exact = exact
        self._ratio = ratio

    def text(self, text: str) -> int:
        if self._exact is not None:
            return self._exact(text)
        # 4 characters per token fit English; three quarters of the bytes scripts that o200k knows less well.
        length = len(text) if text.isascii() else max(len(text), len(text.encode()) * 0.75)
        return int(length / 4 * self._ratio) + 1

    def message(self, content: str) -> int:
        return self.text(content) + _PER_MESSAGE


class Tokens:
    """A `Counter` per principal: with a tokenizer where the extra `tokens` is installed, else estimates.

    Estimates are corrected by what the provider reports of the same principal's prompts (a moving mean
    of the ratio). One caller's odd texts never change what another's count for.
    """

    def __init__(self) -> None:
        self._exact = _tokenizer()
        self._ratios: dict[str, float] = {}  # the one learned last is at the end

    def of(self, principal: str) -> Counter:
        return Counter(self._exact, self._ratios.get(principal, 1.0))

    def learn(self, principal: str, context: Context, reported: int) -> None:
        """Correct later estimates by a fifth of what this one's text was off, within sound bounds."""
        text = context.text_tokens
        said = reported - (context.prompt_tokens - text)
        if self._exact is not None or text < _TELLING or said <= 0:
            return
        ratio = self._ratios.pop(principal, 1.0) * (1 + 0.2 * (said / text - 1))
        self._ratios[principal] = min(3.0, max(0.5, ratio))
        if len(self._ratios) > _KNOWN_PRINCIPALS:
            del self._ratios[next(iter(self._ratios))]


def _tokenizer() -> Callable[[str], int] | None:
    try:
        from rs_bpe import openai
    except ImportError:
        return None
    count: Callable[[str], int] = openai.o200k_base().count
    return count


@dataclass(frozen=True, slots=True)
class Context:
    """What the model is sent. `text_tokens` are those of the prompt that are plain text; 0 with tools or
    formats, which every provider words in its own way."""

    messages: list[dict[str, Any]]
    prompt_tokens: int
    text_tokens: int = 0


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
        self,
        principal: str,
        model: Model,
        params: dict[str, Any],
        system: str,
        content: str,
        messages: list[dict[str, Any]] | None = None,
        history: int = 0,
    ) -> int:
        """Tokens of the smallest context there is. Raises context_too_long where it never fits.

        `history`: messages that a new session is to begin with; what no context can hold is not stored.
        """
        most = max(0, self.room(model, params)) // (_PER_MESSAGE + 1)
        if history > most:
            raise ServiceError(
                "context_too_long",
                f"The history has {history} messages; with the room for the answer the model takes {most}.",
            )
        counter = self._tokens.of(principal)
        if messages is not None:
            what, smallest = "conversation", explicit(counter, messages)
        else:
            what, smallest = "message", counter.message(system) + counter.message(content)
        smallest += _formats(counter, params)
        if smallest > self.room(model, params):
            raise ServiceError(
                "context_too_long",
                f"The {what} has about {smallest} tokens; with the room for the answer the model takes "
                f"{max(0, self.room(model, params))}.",
            )
        return smallest

    async def build(self, turn: Turn, model: Model) -> Context:
        counter = self._tokens.of(turn.ref.principal)
        formats = _formats(counter, turn.params)
        if "messages" in turn.params:
            given = turn.params["messages"]
            return _context(given, explicit(counter, given), formats)
        system = turn.params.get("system") or DEFAULT_SYSTEM_PROMPT
        question = turn.question or await self._question(turn)
        used = counter.message(system) + counter.message(question)
        room = self.room(model, turn.params) - used - formats
        seen, turn.history = turn.history, None  # not kept for as long as the turn runs
        window = await self._window(turn.ref, turn.pos - 1, room, seen)
        messages = [
            {"role": "system", "content": system},
            *({"role": one.role, "content": one.content} for one in window.said),
            {"role": "user", "content": question},
        ]
        return _context(messages, used + window.tokens, formats)

    async def _question(self, turn: Turn) -> str:
        message = await self._sessions.message(turn.ref.principal, turn.ref.session_id, turn.user)
        if message is None:
            raise ServiceError("session_not_found", "The session was deleted.")
        return message.content

    async def estimate(
        self, send: Send, ref: TurnRef, seen: SessionSnapshot, model: Model, params: dict[str, Any]
    ) -> int:
        """Tokens of the context that a send will have, or a little more, before it has begun.

        What is read for that of the history is added to what was seen.
        """
        counter = self._tokens.of(ref.principal)
        if send.messages is not None:
            return explicit(counter, send.messages) + _formats(counter, params) + _PRIMING
        used = counter.message(params["system"]) + counter.message(send.content)
        used += _formats(counter, params) + _PRIMING
        if seen.session is None or not seen.session.turns:  # else they are there already, or in vain
            used += sum(counter.message(seed["content"]) for seed in send.seeds)
        if seen.session is not None:
            window = await self._window(ref, _END, self.room(model, params) - used, seen.page)
            seen.page = window.read
            used += window.tokens
        return used

    async def _window(self, ref: TurnRef, place: int, room: int, seen: Page | None) -> _Window:
        """The newest messages below a place that fit; `seen` is what is known of them."""
        counter = self._tokens.of(ref.principal)
        page = Page([], place > _FIRST) if seen is None else seen.below(place)
        fitting: list[tuple[Said, int]] = []  # with their tokens, newest first
        used = 0
        while True:
            for one in page.said[len(fitting) :]:
                tokens = counter.message(one.content)
                if used + tokens > room:
                    return _Window(*_trimmed(fitting, room), page)
                used += tokens
                fitting.append((one, tokens))
            if not page.more:
                return _Window(_answered(fitting), used, page)
            size = min(_PAGE_BYTES, max(0, room - used) * _BYTES_PER_TOKEN + _SPARE_BYTES)
            below = page.said[-1].place if page.said else place
            older = await self._sessions.window(ref.principal, ref.session_id, below, _PAGE, size)
            page = page.followed_by(older)


def explicit(counter: Counter, messages: list[dict[str, Any]]) -> int:
    """Tokens of a context that the caller gave as a whole; it is sent as it is or refused."""
    tokens = 0
    for message in messages:
        tokens += counter.message(str(message.get("content") or ""))
        for call in message.get("tool_calls", ()):
            tokens += counter.message(call["function"]["name"] + str(call["function"]["arguments"]))
    return tokens


def _formats(counter: Counter, params: dict[str, Any]) -> int:
    """Tokens of what a prompt says besides its messages: tools, and the form of the answer."""
    said = [params[name] for name in ("tools", "response_format") if params.get(name)]
    return counter.text(orjson.dumps(said).decode()) if said else 0


def _context(messages: list[dict[str, Any]], tokens: int, formats: int) -> Context:
    plain = not formats and not any("tool_calls" in message for message in messages)
    text = max(0, tokens - len(messages) * _PER_MESSAGE) if plain else 0
    return Context(messages, tokens + formats + _PRIMING, text)


@dataclass(frozen=True, slots=True)
class _Window:
    """What of a history is sent, oldest first; its tokens, unanswered questions among them; what was read."""

    said: list[Said]
    tokens: int
    read: Page


def _trimmed(fitting: list[tuple[Said, int]], room: int) -> tuple[list[Said], int]:
    """Begin at a round place: the front then moves once in many turns, not in each."""
    kept = fitting
    for step in _STEPS:
        starts = [i for i, (one, _) in enumerate(fitting) if one.place % step == 0]
        if starts:
            candidate = fitting[: starts[-1] + 1]
            if sum(tokens for _, tokens in candidate) >= room // 2:
                kept = candidate
                break
    said = _answered(kept)
    while said and said[0].role == "assistant":
        said.pop(0)
    return said, sum(tokens for _, tokens in kept)


def _answered(fitting: list[tuple[Said, int]]) -> list[Said]:
    """Oldest first, without the questions of turns that ended without text (seeds stay)."""
    answers = {one.place for one, _ in fitting if one.role == "assistant" and one.content}
    return [
        one
        for one, _ in reversed(fitting)
        if not one.turn_id or (one.place if one.role == "assistant" else one.place + 1) in answers
    ]
