"""Titles: a cheap model finds a title for a session, after its first answer.

Off unless CHAT_TITLE_MODEL names a model. Nothing waits for it: it begins when a turn has ended, takes no
place among running turns, and is given up if the provider has no room, after 20 s, or at a drain. There is
one try per session, whichever replica ends the turn; a title that somebody has set stays. Its usage is booked
to the principal. No text is logged.
"""

from __future__ import annotations

import asyncio
from typing import Final

from service import ids
from service.engine.background import Background
from service.engine.budgets import Budgets
from service.engine.live import Live
from service.engine.pacing.provider_keys import ProviderKeys
from service.engine.storage import Storage
from service.engine.tokens import Tokens
from service.errors import ServiceError
from service.store.store import Store
from service.store.turn_records import TurnRef
from service.telemetry.logs import get_logger
from service.upstream.base import TEXT, Batch, Request, Upstream
from service.upstream.models import Model

_PROMPT: Final = (
    "Give the conversation that follows a title of two to six words, in its own language. "
    "Answer with the title alone: no quotation marks, no full stop."
)
# Characters of the question and of the answer that the model is sent: their beginnings are enough for a
# title.
_TOLD: Final = 2_000
# Tokens: six words, and the reasoning before them at the least effort.
_COMPLETION: Final = 512
_LONGEST: Final = 80  # characters; a person may take 200
_SECONDS: Final = 20.0
# Titles that a worker looks for at a time; further sessions get none.
_AT_ONCE: Final = 8
# The least first: a title takes no thought.
_EFFORTS: Final = ("none", "low")

log = get_logger(__name__)


class Titles:
    def __init__(
        self,
        model: Model | None,
        upstream: Upstream,
        store: Store,
        storage: Storage,
        budgets: Budgets,
        tokens: Tokens,
        governor: ProviderKeys,
        background: Background,
    ) -> None:
        self._model = model
        self._upstream = upstream
        self._store = store
        self._storage = storage
        self._budgets = budgets
        self._tokens = tokens
        self._governor = governor
        self._background = background
        self._tasks: set[asyncio.Future[None]] = set()
        self._closed = False

    def after(self, live: Live) -> None:
        """A turn has ended here. Returns at once."""
        answer = "".join(live.answer.text)
        if self._model is None or self._closed or live.outcome != "completed" or not answer.strip():
            return
        if len(self._tasks) < _AT_ONCE:
            work = self._find(self._model, live.turn.ref, live.turn.user, answer[:_TOLD])
            task = self._background.task("title", work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Begin none, and give up those that are under way."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def _find(self, model: Model, ref: TurnRef, question_id: str, answer: str) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                if not await self._store.sessions.wants_title(ref):
                    return
                question = await self._store.sessions.message(ref.principal, ref.session_id, question_id)
                asked = question.content[:_TOLD] if question is not None else ""
                title = _cleaned(await self._ask(model, ref, f"User: {asked}\n\nAssistant: {answer}"))
                if title:
                    size = len(title.encode())
                    await self._storage.charge(ref.principal, ref.session_id, size, new=False)
                    await self._store.sessions.give_title(ref, title)
        except (ServiceError, TimeoutError) as error:
            code = error.code if isinstance(error, ServiceError) else "timeout"
            log.warning("title.failed", session=ref.session_id, turn=ref.turn_id, code=code)

    async def _ask(self, model: Model, ref: TurnRef, conversation: str) -> str:
        messages = [{"role": "system", "content": _PROMPT}, {"role": "user", "content": conversation}]
        prompt = self._tokens.of(ref.principal).chat(messages)
        params = {}
        if model.reasoning_efforts:
            known = [effort for effort in _EFFORTS if effort in model.reasoning_efforts]
            params["reasoning_effort"] = (known or model.reasoning_efforts)[0]
        said: list[str] = []
        spent = {"prompt_tokens": prompt, "completion_tokens": 0}

        def take(batch: Batch) -> None:
            spent["completion_tokens"] += batch.tokens
            spent.update(batch.usage or {})
            said.extend(piece for kind, piece in batch.pieces if kind == TEXT)

        # Answers go first: without room now there is no title.
        permit = await self._governor.admit(ref.principal, [model], prompt, _COMPLETION, 0.0, asked=True)
        request = Request(model, messages, permit.completion, params, ids.new_turn_id(), permit.key.secret)
        try:
            with permit:
                async with self._upstream.call(request) as reply:
                    permit.learned(reply.limits)
                    await reply.read_into(take)
                permit.spent(spent["prompt_tokens"], spent["completion_tokens"])
        finally:
            if request.billable:
                apart = TurnRef(ref.principal, ref.session_id, request.turn_id)
                await self._budgets.book_apart(apart, model, spent)
        return "".join(said)


def _cleaned(said: str) -> str:
    """The first line that is not blank, without the quotes and marks that models put around it."""
    lines = [line.strip().strip("\"'`*#_.\u201c\u201d\u201e\u00ab\u00bb ") for line in said.splitlines()]
    line = next((line for line in lines if line), "")
    words = "".join(character for character in line if character.isprintable())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1].rstrip() + "\u2026"
