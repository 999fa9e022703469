"""What is read of a chat request. The demo believes what it is sent; a wrong type raises ValueError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from service.demo.models import Model

_DEFAULT_COMPLETION: Final = 2048  # tokens where the request names no bound; reasoning counts
_TOKENS_PER_MESSAGE: Final = 4


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`params` is all but the model and the messages; `prefill` is a last message of the assistant's."""

    model: Model
    messages: list[dict[str, Any]]
    params: dict[str, Any]
    max_completion: int
    prompt_tokens: int
    last_user: str
    prefill: str | None

    @property
    def stream(self) -> bool:
        return bool(self.params.get("stream"))

    @property
    def include_usage(self) -> bool:
        return bool((self.params.get("stream_options") or {}).get("include_usage"))

    @property
    def structured(self) -> bool:
        """The answer has to be JSON."""
        return bool((self.params.get("response_format") or {}).get("type", "text") != "text")

    @property
    def thoughts(self) -> str:
        """How reasoning is shown: parsed, raw or hidden."""
        if self.params.get("include_reasoning") is False:
            return "hidden"
        default = "raw" if self.model.reasoning == "think" else "parsed"
        return str(self.params.get("reasoning_format") or default)

    @property
    def asks_for_thoughts(self) -> bool:
        wanted = self.params.get("include_reasoning") is True or "reasoning_format" in self.params
        return wanted and self.thoughts != "hidden" and self.params.get("reasoning_effort") != "none"


def text_of(content: object) -> str:
    """The text of a message's content, be it a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def count_prompt(messages: list[dict[str, Any]], *besides: object) -> int:
    """A quarter of the characters and four a message: cheap, and the same every time.

    `besides` is what else the model is told as JSON: tools, and the form of its answer.
    """
    told = sum(len(orjson.dumps(one)) for one in besides if one)
    words = sum(math.ceil(len(text_of(item.get("content"))) / 4) + _TOKENS_PER_MESSAGE for item in messages)
    return words + math.ceil(told / 4)


def read_request(fields: Mapping[str, Any], model: Model) -> ChatRequest:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise ValueError("'messages' has to be a list of objects")
    asked = fields.get("max_completion_tokens") or fields.get("max_tokens") or _DEFAULT_COMPLETION
    users = [item for item in messages if item.get("role") == "user"]
    last = messages[-1]
    return ChatRequest(
        model=model,
        messages=messages,
        params={key: value for key, value in fields.items() if key not in ("messages", "model")},
        max_completion=min(int(asked), model.max_completion_tokens),
        prompt_tokens=count_prompt(messages, fields.get("tools"), fields.get("response_format")),
        last_user=text_of(users[-1].get("content")) if users else "",
        prefill=text_of(last.get("content")) if last.get("role") == "assistant" else None,
    )
