"""Tokens: how many a prompt has, before the provider reports it.

Exact with a tokenizer (the extra `tokens`), else estimated by length and corrected by what the provider
reports. Invariant: corrections from one caller's texts change no other caller's counts. What is sent belongs
to context.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from service.engine.pictures import LEFT_OUT
from service.parts import Chat
from service.upstream.models import ImageRules, Model

#: chat templates wrap every message in a few tokens (o200k_harmony: 4)
PER_MESSAGE: Final = 4
# Tokens of a prompt from which estimates are corrected: shorter ones are mostly the model's template.
_TELLING: Final = 500
# Principals whose ratio a worker remembers, 150 bytes each; a forgotten one begins again at 1.
_KNOWN_PRINCIPALS: Final = 4_096


class Counter:
    """Counts tokens of one caller's texts: exactly with a tokenizer, else by length times `ratio`.

    Images by their model's rule; one that is not shown is counted as the words in its place.
    """

    __slots__ = ("_exact", "_images", "_ratio")

    def __init__(
        self, exact: Callable[[str], int] | None, ratio: float, images: ImageRules | None = None
    ) -> None:
        self._exact = exact
        self._ratio = ratio
        self._images = images

    def without_images(self) -> Counter:
        return Counter(self._exact, self._ratio)

    def text(self, text: str) -> int:
        if self._exact is not None:
            return self._exact(text)
        # 4 characters per token fit English; three quarters of the bytes scripts that o200k knows less well.
        length = len(text) if text.isascii() else max(len(text), len(text.encode()) * 0.75)
        return int(length / 4 * self._ratio) + 1

    def message(self, content: str) -> int:
        return self.text(content) + PER_MESSAGE

    def chat(self, messages: Iterable[Chat]) -> int:
        """Tokens of messages as a model is sent them."""
        return sum(map(self._chat, messages))

    def _chat(self, message: Chat) -> int:
        content = message.get("content") or ""
        if isinstance(content, str):
            tokens = self.message(content)
        else:
            tokens = PER_MESSAGE + sum(map(self._part, content))
        for call in message.get("tool_calls", ()):
            tokens += self.message(call["function"]["name"] + str(call["function"]["arguments"]))
        return tokens + (self.text(message["reasoning"]) if message.get("reasoning") else 0)

    def _part(self, part: dict[str, Any]) -> int:
        if part["type"] != "image_url":
            return self.text(part["text"])
        return self._images.tokens_of(part.get("pixels")) if self._images else self.text(LEFT_OUT)


class Tokens:
    """A `Counter` per principal: with a tokenizer where the extra `tokens` is installed, else estimates.

    Estimates are corrected by what the provider reports of the same principal's prompts (a moving mean
    of the ratio). One caller's odd texts never change what another's count for.
    """

    def __init__(self) -> None:
        self._exact = _tokenizer()
        self._ratios: dict[str, float] = {}  # the one learned last is at the end

    def of(self, principal: str, model: Model | None = None) -> Counter:
        return Counter(self._exact, self._ratios.get(principal, 1.0), model.images if model else None)

    def learn(self, principal: str, prompt: int, text: int, reported: int) -> None:
        """Correct later estimates by a fifth of the error of this one; the ratio stays in 0.5 to 3."""
        said = reported - (prompt - text)
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
