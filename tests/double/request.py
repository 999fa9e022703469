"""Reading a chat request as strictly as Groq does.

`read_request` either returns a request that Groq would accept or raises the Refusal that it
would send. Message schemas are closed: an id, a timestamp or a name on a message is a 400.
Says nothing of what the answer will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from service.demo import request as accepted
from service.demo.models import Model
from service.demo.request import ChatRequest
from tests.double import refusals
from tests.double.refusals import Refusal
from tests.double.settings import Settings

_PARAMETERS: Final = frozenset(
    {
        "messages",
        "model",
        "stream",
        "stream_options",
        "max_completion_tokens",
        "max_tokens",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "user",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "reasoning_format",
        "include_reasoning",
        "service_tier",
        "frequency_penalty",
        "presence_penalty",
        "disable_tool_validation",
        "documents",
        "citation_options",
    }
)
_UNSUPPORTED: Final = ("logprobs", "logit_bias", "top_logprobs", "metadata", "store")
# How a model reasons -> what `reasoning_effort` may be.
_EFFORTS: Final[dict[str, tuple[str, ...]]] = {
    "": (),
    "analysis": ("low", "medium", "high"),
    "think": ("none", "default", "low", "medium", "high"),
}
_MESSAGE_KEYS: Final[dict[str, frozenset[str]]] = {
    "system": frozenset({"role", "content"}),
    "developer": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "tool_calls"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}


def read_body(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"could not parse the JSON body of the request: {error}") from error
    if not isinstance(fields, dict):
        raise Refusal(400, "the body of the request has to be a JSON object")
    return fields


def read_request(fields: dict[str, Any], settings: Settings) -> ChatRequest:
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        raise Refusal(400, "'model' : property 'model' is missing")
    if name in settings.decommissioned:
        raise refusals.model_decommissioned(name)
    if name not in settings.models:
        raise refusals.model_not_found(name)
    model = settings.models[name]
    _check_parameters(fields, model)
    _check_streaming(fields, settings)
    messages = _check_messages(fields.get("messages"), model)
    asked = fields.get("max_completion_tokens") or fields.get("max_tokens")
    if asked is not None and asked > model.max_completion_tokens:
        raise Refusal(
            400,
            f"`max_completion_tokens` must be less than or equal to `{model.max_completion_tokens}`, "
            "the maximum value for `max_completion_tokens` is less than the `context_window` for this model",
            param="max_completion_tokens",
        )
    request = accepted.read_request({**fields, "messages": messages}, model)
    if request.prompt_tokens + (asked or 0) > model.context_window:
        raise refusals.context_length_exceeded()
    return request


def _between(low: float, high: float) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_RULES: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "max_completion_tokens": (_is_count, "must be an integer of at least 1"),
    "max_tokens": (_is_count, "must be an integer of at least 1"),
    "temperature": (_between(0, 2), "must be a number between 0 and 2"),
    "top_p": (_between(0, 1), "must be a number between 0 and 1"),
    "frequency_penalty": (_between(-2, 2), "must be a number between -2 and 2"),
    "presence_penalty": (_between(-2, 2), "must be a number between -2 and 2"),
    "n": (lambda value: value == 1, "must be 1"),
    "stream": (lambda value: isinstance(value, bool), "must be a boolean"),
    "seed": (lambda value: isinstance(value, int), "must be an integer"),
    "user": (lambda value: isinstance(value, str), "must be a string"),
    "stop": (
        lambda value: isinstance(value, str) or (isinstance(value, list) and len(value) <= 4),
        "must be a string or an array of at most 4 strings",
    ),
    "service_tier": (
        lambda value: value in ("on_demand", "flex", "auto"),
        "is not available for this organization",
    ),
    "reasoning_format": (lambda value: value in ("raw", "parsed", "hidden"), "must be raw, parsed or hidden"),
    "include_reasoning": (lambda value: isinstance(value, bool), "must be a boolean"),
    "stream_options": (lambda value: isinstance(value, dict), "must be an object"),
    "tools": (lambda value: isinstance(value, list), "must be an array"),
    "response_format": (
        lambda value: isinstance(value, dict) and value.get("type") in ("text", "json_object", "json_schema"),
        "must have a type out of text, json_object and json_schema",
    ),
}


def _check_parameters(fields: Mapping[str, Any], model: Model) -> None:
    for name in fields:
        if name in _UNSUPPORTED and fields[name] not in (None, False):
            raise Refusal(400, f"'{name}' : property '{name}' is not supported with this model", param=name)
        if name not in _PARAMETERS and name not in _UNSUPPORTED:
            raise Refusal(400, f"property '{name}' is unsupported")
    for name, (holds, words) in _RULES.items():
        if fields.get(name) is not None and not holds(fields[name]):
            raise Refusal(400, f"'{name}' : {words}", param=name)
    if fields.get("stream_options") and not fields.get("stream"):
        raise Refusal(400, "'stream_options' : is only allowed when 'stream' is true", param="stream_options")
    _check_reasoning(fields, model)
    tools = bool(fields.get("tools"))
    if tools and not model.tools:
        raise Refusal(400, "`tool calling` is not supported with this model", param="tools")
    if fields.get("tools") == []:
        raise Refusal(400, "'tools' : minimum number of items is 1", param="tools")
    if fields.get("tool_choice") is not None and not tools:
        raise Refusal(400, "'tool_choice' : is only allowed when 'tools' are specified", param="tool_choice")
    if tools and (fields.get("response_format") or {}).get("type", "text") != "text":
        raise Refusal(400, "json mode cannot be combined with tool/function calling", param="response_format")


def _check_streaming(fields: Mapping[str, Any], settings: Settings) -> None:
    form = (fields.get("response_format") or {}).get("type")
    if fields.get("stream") and form in settings.unstreamed:
        raise Refusal(400, "`response_format` does not support streaming")
    if not fields.get("stream") and form in settings.streamed_only:
        raise Refusal(400, f"`{form}` is only supported with stream=true", param="stream")


def _check_reasoning(fields: Mapping[str, Any], model: Model) -> None:
    effort = fields.get("reasoning_effort")
    efforts = _EFFORTS[model.reasoning]
    if effort is not None and effort not in efforts:
        words = (
            f"`reasoning_effort` must be one of {', '.join(f'`{item}`' for item in efforts)}"
            if efforts
            else "`reasoning_effort` is not supported with this model"
        )
        raise Refusal(400, words, param="reasoning_effort")
    form = fields.get("reasoning_format")
    if form is not None and fields.get("include_reasoning") is not None:
        raise Refusal(400, "cannot specify both `reasoning_format` and `include_reasoning`")
    structured = (fields.get("response_format") or {}).get("type", "text") != "text"
    if form == "raw" and (fields.get("tools") or structured):
        raise Refusal(
            400, "`reasoning_format` must not be `raw` with tools or JSON", param="reasoning_format"
        )


def _check_messages(messages: object, model: Model) -> list[dict[str, Any]]:
    if messages is None:
        raise Refusal(400, "'messages' : property 'messages' is missing")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "'messages' : minimum number of items is 1", param="messages")
    called: set[str] = set()
    for index, item in enumerate(messages):
        where = f"messages.{index}"
        if not isinstance(item, dict) or item.get("role") not in _MESSAGE_KEYS:
            raise Refusal(400, f"'{where}' : discriminator property 'role' has invalid value")
        role = item["role"]
        for key in item:
            if key not in _MESSAGE_KEYS[role]:
                raise _unsatisfied(where, role, f"'{where}' : property '{key}' is unsupported")
        _check_content(item, where, role, model)
        for call in item.get("tool_calls") or ():
            called.add(str(call.get("id")) if isinstance(call, dict) else "")
        if role == "tool" and item.get("tool_call_id") not in called:
            raise _unsatisfied(where, role, f"'{where}.tool_call_id' : no tool call with this id before it")
    last = messages[-1]
    if last["role"] == "assistant" and (last.get("tool_calls") or model.classifier):
        raise Refusal(400, "last message role must be 'user'")
    return messages


def _check_content(item: dict[str, Any], where: str, role: str, model: Model) -> None:
    content = item.get("content")
    if content is None and not (role == "assistant" and item.get("tool_calls")):
        raise _unsatisfied(where, role, f"'{where}' : property 'content' is missing")
    if isinstance(content, list):
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "image_url" and model.vision and role == "user":
                continue
            if not model.vision:
                raise _unsatisfied(where, role, f"'{where}.content' : value must be a string")
            if kind != "text" or not isinstance(part.get("text"), str):
                raise _unsatisfied(where, role, f"'{where}.content' : parts have to be text")
    elif content is not None and not isinstance(content, str):
        raise _unsatisfied(where, role, f"'{where}.content' : value must be a string")


def _unsatisfied(where: str, role: str, words: str) -> Refusal:
    return Refusal(400, f"'{where}' : for 'role:{role}' the following must be satisfied[({words})]")
