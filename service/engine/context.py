"""The context of a turn: which messages of the history the model is sent, and their tokens.

Invariants: the system prompt and the newest user message are always there, no message is cut,
the order is the history's. Trimming drops from the front in big steps, so that the prefix (and
the provider's prompt cache) stays the same for many turns. The same turn gives the same context
again after a takeover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from service import parts
from service.engine.exchanges import said_before
from service.engine.sends import Candidate, Send
from service.engine.tokens import PER_MESSAGE, Counter, Tokens
from service.errors import ServiceError
from service.parts import Chat, Part
from service.store.messages import HistoryPage, Said
from service.store.sessions import Sessions
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import Model

DEFAULT_SYSTEM_PROMPT: Final = "You are a helpful AI assistant."
#: The words that ask a model without prefill for the rest of its answer.
GO_ON: Final = (
    "Your answer was cut off. Go on exactly where it ended, in the middle of a word if need be: "
    "repeat nothing, explain nothing."
)

# Chat templates prime the answer with some tokens.
_PRIMING: Final = 16
# More tokens than any model takes.
_ALL: Final = 2**40
# A place behind all messages.
_END: Final = 2**53
# The place of a session's first question: nothing is before it.
_FIRST: Final = 2
# Messages of history per round trip, and bytes for each token that has room. A token has about 4 bytes and a
# short message as many for its form: a page is little more than what fits, and takes Redis less than 1 ms.
_PAGE: Final = 128
_BYTES_PER_TOKEN: Final = 5
_PAGE_BYTES: Final = 262_144
# Bytes that are read beyond that: a message too many takes less time than one more round trip.
_SPARE_BYTES: Final = 4_096
# Messages and bytes of a session that a send reads before its model is known: a dozen exchanges, which is all
# of most chats, in 0.1 ms of Redis. If the model takes more, the rest is read afterwards.
PREVIEW: Final = (_PAGE, 16_384)
# Trimming starts at a place divisible by the largest of these that keeps half the room used.
_STEPS: Final = (64, 32, 16, 8, 4, 2)


@dataclass(frozen=True, slots=True)
class Context:
    """What the model is sent. `text_tokens` are the tokens of plain text in the prompt; 0 with tools, formats
    or images, which each provider writes, or counts, in its own way."""

    messages: list[dict[str, Any]]
    prompt_tokens: int
    text_tokens: int = 0


class Contexts:
    def __init__(self, sessions: Sessions, tokens: Tokens) -> None:
        self._sessions = sessions
        self._tokens = tokens

    def completion_of(self, model: Model, params: dict[str, Any]) -> int:
        """The completion limit to ask for. Groq counts it against its limits, so no more than useful."""
        asked = params.get("max_completion_tokens")
        return min(int(asked), model.max_completion_tokens) if asked else model.default_completion

    def room(self, model: Model, params: dict[str, Any]) -> int:
        """Tokens that a prompt may have."""
        return model.context_window - self.completion_of(model, params) - _PRIMING

    def check(self, send: Send, model: Model, system: str, history: int = 0) -> int:
        """Tokens of the smallest context there is. Raises context_too_long where it never fits.

        `history`: number of messages that a new session is to begin with; more than a context holds are
        refused.
        """
        params = send.params
        most = max(0, self.room(model, params)) // (PER_MESSAGE + 1)
        if history > most:
            raise _too_long(f"The history has {history} messages", most)
        counter = self._tokens.of(send.principal, model)
        if send.messages is not None:
            what, smallest = "conversation", counter.chat(send.messages)
        else:
            what, smallest = "message", counter.message(system) + counter.chat(_question(send))
            smallest += counter.chat(_fitting_rounds(counter, _before(send), 0))
        smallest += _formats(counter, params)
        if smallest > self.room(model, params):
            raise _too_long(f"The {what} has about {smallest} tokens", max(0, self.room(model, params)))
        return smallest

    def shortened(self, send: Send, model: Model) -> list[Chat]:
        """A context that a caller sends as a whole, cut to what fits: the messages from a question on, and
        those of the system."""
        messages, counter = send.messages or [], self._tokens.of(send.principal, model)
        sizes = [counter.chat([message]) for message in messages]
        over = sum(sizes) + _formats(counter, send.params) - self.room(model, send.params)
        first = 0
        for start in (i for i, message in enumerate(messages) if message["role"] == "user"):
            if over <= 0:
                break
            over -= sum(sizes[i] for i in range(first, start) if messages[i]["role"] != "system")
            first = start
        return [one for i, one in enumerate(messages) if i >= first or one["role"] == "system"]

    def learn(self, principal: str, context: Context, reported: int) -> None:
        """Correct later estimates for this principal by what the provider has counted for a context."""
        self._tokens.learn(principal, context.prompt_tokens, context.text_tokens, reported)

    async def build(self, turn: Turn, model: Model) -> Context:
        counter = self._tokens.of(turn.ref.principal, model)
        formats = _formats(counter, turn.params)
        if "messages" in turn.params:
            given = turn.params["messages"]
            return _context(given, counter.chat(given), formats)
        most = _ALL if turn.params.get("whole") else self.room(model, turn.params)
        system = turn.params.get("system") or DEFAULT_SYSTEM_PROMPT
        exchange = await self._asked(turn)
        used = counter.message(system) + counter.chat(exchange)
        if before := await said_before(self._sessions, turn):
            room, reasoning = most - formats - used, model.supports("reasoning_history")
            told = _going_on(before, _fitting_rounds(counter, before, room, reasoning=reasoning), model)
            exchange, used = exchange + told, used + counter.chat(told)
        room = most - used - formats
        seen, turn.history = turn.history, None  # not kept for as long as the turn runs
        window = await self._window(turn.ref, turn.pos - 1, room, seen, model, exchange)
        messages = [{"role": "system", "content": system}, *window.chat, *exchange]
        return _context(messages, used + window.tokens, formats)

    async def _asked(self, turn: Turn) -> list[Chat]:
        if turn.question:
            return parts.chat("user", turn.question, ())
        message = await self._sessions.message(turn.ref.principal, turn.ref.session_id, turn.user)
        if message is None:
            raise ServiceError("session_not_found", "The session was deleted.")
        return parts.chat("user", message.content, message.parts)

    async def estimate(self, candidate: Candidate) -> int:
        """Tokens of the context that a send will have, or a little more, before it has begun.

        History that is read for this is added to `candidate.seen`. Raises context_too_long where the history
        does not fit and may not be trimmed.
        """
        send, ref, seen = candidate.send, candidate.ref, candidate.seen
        model, params = candidate.model, candidate.params
        counter = self._tokens.of(ref.principal, model)
        if send.messages is not None:
            return counter.chat(send.messages) + _formats(counter, params) + _PRIMING
        asked = _question(send)
        used = counter.message(params["system"]) + counter.chat(asked)
        if before := _before(send):
            used += counter.chat(parts.chat("assistant", "", before))
        used += _formats(counter, params) + _PRIMING
        if seen.session is None or not seen.session.turns:  # else they are stored already, or are not used
            used += sum(map(counter.chat, map(_seed, send.seeds)))
        whole = True
        if seen.session is not None:
            place = send.base.place - 1 if send.base is not None else _END
            room = self.room(model, params) + _PRIMING - used  # in which that is
            window = await self._window(ref, place, room, seen.page, model, asked)
            seen.page = window.read
            used += window.tokens
            whole = window.whole
        if send.trims is False and not (whole and used <= self.room(model, params) + _PRIMING):
            most = f"{max(0, self.room(model, params))} tokens"
            raise _too_long("With the conversation before it the message does not fit", most)
        return used

    async def _window(
        self, ref: TurnRef, place: int, room: int, seen: HistoryPage | None, model: Model, asked: list[Chat]
    ) -> _Window:
        """The newest messages below a place that fit; `seen` are those read before, `asked` follows them."""
        counter, reasoning = self._tokens.of(ref.principal, model), model.supports("reasoning_history")
        shown = (model.images.count if model.images else 0) - _images(asked)
        page = HistoryPage([], place > _FIRST) if seen is None else seen.below(place)
        fitting: list[_Fitting] = []  # newest first
        used = 0
        while True:
            for one in page.said[len(fitting) :]:
                chat = _told(one, reasoning=reasoning)
                if shown <= 0:  # older images are replaced by words
                    counter = counter.without_images()
                tokens = counter.chat(chat)
                shown -= _images(chat)
                if used + tokens > room:
                    return _Window(*_trimmed(fitting, room), page, whole=False)
                used += tokens
                fitting.append(_Fitting(one, chat, tokens))
            if not page.more:
                return _Window(_answered(fitting), used, page)
            size = min(_PAGE_BYTES, max(0, room - used) * _BYTES_PER_TOKEN + _SPARE_BYTES)
            below = page.said[-1].place if page.said else place
            older = await self._sessions.window(ref.principal, ref.session_id, below, _PAGE, size)
            page = page.followed_by(older)


def _too_long(what: str, most: int | str) -> ServiceError:
    return ServiceError("context_too_long", f"{what}; with the room for the answer the model takes {most}.")


def _told(one: Said, *, reasoning: bool) -> list[Chat]:
    """The chat messages for a message: a call and its results are both in it, or neither."""
    return parts.chat(one.role, one.content, one.whole if reasoning else one.parts, reasoning=reasoning)


def _question(send: Send) -> list[Chat]:
    if send.base is not None:
        return parts.chat("user", send.base.question.content, send.base.question.parts)
    return parts.chat("user", send.content, send.parts)


def _before(send: Send) -> list[Part]:
    return send.base.before if send.base is not None else send.prior


def _fitting_rounds(
    counter: Counter, before: list[Part], room: int, *, reasoning: bool = False
) -> list[Chat]:
    """The chat messages of an exchange that goes on: its newest rounds that fit, at least one."""
    told = [parts.chat("assistant", "", one, reasoning=reasoning) for one in parts.rounds(before)]
    used, first = 0, len(told)
    while first > 0 and (first == len(told) or used + counter.chat(told[first - 1]) <= room):
        first -= 1
        used += counter.chat(told[first])
    return [message for one in told[first:] for message in one]


def _going_on(before: list[Part], told: list[Chat], model: Model) -> list[Chat]:
    """The same, with the words that ask for the rest of a cut answer where the model takes no prefill."""
    cut = told and before[-1]["type"] != parts.RESULT
    return [*told, {"role": "user", "content": GO_ON}] if cut and not model.prefills else told


def _seed(seed: dict[str, Any]) -> list[Chat]:
    return parts.chat(seed["role"], seed["content"], seed.get("parts", ()))


def _formats(counter: Counter, params: dict[str, Any]) -> int:
    """Tokens of the tools and of the answer's format."""
    said = [params[name] for name in ("tools", "response_format") if params.get(name)]
    return counter.text(orjson.dumps(said).decode()) if said else 0


def _images(messages: list[Chat]) -> int:
    said = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    return sum(part["type"] == "image_url" for content in said for part in content)


def _context(messages: list[dict[str, Any]], tokens: int, formats: int) -> Context:
    plain = not formats and not any(
        "tool_calls" in message or isinstance(message.get("content"), list) for message in messages
    )
    text = max(0, tokens - len(messages) * PER_MESSAGE) if plain else 0
    return Context(messages, tokens + formats + _PRIMING, text)


class _Fitting(NamedTuple):
    """A message that fits, its chat messages, and their tokens."""

    said: Said
    chat: list[Chat]
    tokens: int


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a history that is sent, oldest first; its tokens, with those of unanswered questions; what
    was read. `whole`: nothing was left out for want of room.
    """

    chat: list[Chat]
    tokens: int
    read: HistoryPage
    whole: bool = True


def _trimmed(fitting: list[_Fitting], room: int) -> tuple[list[Chat], int]:
    """Begin at a place that is a multiple of a large step: then the front moves once in many turns."""
    kept = fitting
    for step in _STEPS:
        starts = [i for i, one in enumerate(fitting) if one.said.place % step == 0]
        if starts:
            candidate = fitting[: starts[-1] + 1]
            if sum(one.tokens for one in candidate) >= room // 2:
                kept = candidate
                break
    while kept and kept[-1].said.role == "assistant":
        kept = kept[:-1]
    return _answered(kept), sum(one.tokens for one in kept)


def _answered(fitting: list[_Fitting]) -> list[Chat]:
    """Oldest first, without the questions of turns that ended without text (seeds stay)."""
    answers = {one.said.place for one in fitting if one.said.role == "assistant" and one.chat}
    return [
        message
        for one in reversed(fitting)
        if one.said.role == "assistant" or not one.said.turn_id or one.said.place + 1 in answers
        for message in one.chat
    ]
