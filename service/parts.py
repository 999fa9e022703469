"""What a message is made of: its parts, and the chat messages that a model is told of them.

A part is a dict, the same in Redis, in our API and in sends:

    {"type": "text" | "reasoning" | "refusal", "text"}
    {"type": "image", "ref": <sha256> | "url": <https>, "media_type"?, "width"?, "height"?}
    {"type": "tool_call", "id", "name", "arguments": <JSON as the model wrote it>}
    {"type": "tool_result", "tool_call_id", "content", "is_error"?: true, "json"?: true}

`json`: the content is the JSON of a value that was no text. The whole answer to a question is one list of
parts, in rounds: a round is what the model said, its calls, and their results; a part that follows a result
begins the next round. A model is told of a call only together with its result. Pure functions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

Part = dict[str, Any]
Chat = dict[str, Any]

TEXT: Final = "text"
REASONING: Final = "reasoning"
REFUSAL: Final = "refusal"
IMAGE: Final = "image"
CALL: Final = "tool_call"
RESULT: Final = "tool_result"
#: before the digest of an image that is stored with its session, in the place of a URL
REF: Final = "image:"


def joined_calls(deltas: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls as chat completions have them, put together from deltas by their index."""
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        function = delta.get("function") or {}
        call = calls.setdefault(
            delta.get("index", 0), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = delta.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    return list(calls.values())


def call_deltas(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Whole calls as deltas of a stream."""
    calls = [part for part in parts if part["type"] == CALL]
    return [{"index": i, **chat_call(call)} for i, call in enumerate(calls)]


def said(reasoning: str, text: str, deltas: Iterable[dict[str, Any]]) -> list[Part]:
    """The parts of one round, of its reasoning, its text and its calls."""
    thoughts: list[Part] = [{"type": REASONING, "text": reasoning}] if reasoning else []
    words: list[Part] = [{"type": TEXT, "text": text}] if text else []
    return [*thoughts, *words, *map(_call_part, joined_calls(deltas))]


def result(call_id: str, content: str, *, is_error: bool = False, json: bool = False) -> Part:
    part: Part = {"type": RESULT, "tool_call_id": call_id, "content": content}
    if is_error:
        part["is_error"] = True
    if json:
        part["json"] = True
    return part


_SAID: Final = ("text", "arguments", "content", "tool_call_id", "id", "name", "url")


def size_of(parts: Iterable[Part]) -> int:
    """About how many bytes the parts have."""
    said = [part.get(name, "") for part in parts for name in _SAID]
    return sum(len(text) if text.isascii() else len(text.encode()) for text in said) + 30 * len(said)


def rounds(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts, grouped by rounds."""
    found: list[list[Part]] = []
    answered = True
    for part in parts:
        if part["type"] == RESULT:
            answered = True
        elif answered:
            answered = False
            found.append([])
        if not found:
            found.append([])
        found[-1].append(part)
    return found


def text_of(parts: Sequence[Part]) -> str:
    """The text of all rounds; a blank line stands between two."""
    told = [_joined(one, (TEXT, REFUSAL)) for one in rounds(parts)]
    return "\n\n".join(text for text in told if text)


def reasoning_of(parts: Sequence[Part]) -> str:
    told = [_joined(one, (REASONING,)) for one in rounds(parts)]
    return "\n\n".join(text for text in told if text)


def open_calls(parts: Sequence[Part]) -> list[Part]:
    """The calls of the last round that have no result."""
    last = rounds(parts)[-1] if parts else []
    known = {part["tool_call_id"] for part in last if part["type"] == RESULT}
    return [part for part in last if part["type"] == CALL and part["id"] not in known]


def has_results(parts: Iterable[Part]) -> bool:
    return any(part["type"] == RESULT for part in parts)


def with_results(parts: Sequence[Part], results: Sequence[Part]) -> list[Part] | None:
    """An answer up to the round whose calls these are the results of, with them, in the order of the calls.

    What followed is left out: the results are given anew. None where no round has all of these calls.
    """
    given = {part["tool_call_id"]: part for part in results}
    before = rounds(parts)
    while before:
        last = before.pop()
        calls = [part["id"] for part in last if part["type"] == CALL]
        if given and given.keys() <= set(calls):
            known = {part["tool_call_id"]: part for part in last if part["type"] == RESULT} | given
            kept = [part for part in last if part["type"] != RESULT]
            kept += [known[call_id] for call_id in calls if call_id in known]
            return [part for one in before for part in one] + kept
    return None


def gone_on(before: Sequence[Part], more: Sequence[Part]) -> list[Part]:
    """An exchange, with `more` from the model: a new round, or the rest of a round that was cut."""
    if not before or before[-1]["type"] == RESULT:
        return [*before, *more]
    *earlier, last = rounds(before)
    if not more:
        return list(before)
    thoughts = [_joined(one, (REASONING,)) for one in (last, more)]
    text = _joined(last, (TEXT, REFUSAL)) + _joined(more, (TEXT, REFUSAL))
    rest = said("\n\n".join(filter(None, thoughts)), text, ())
    return [part for one in earlier for part in one] + rest + [part for part in more if part["type"] == CALL]


def ended_before(whole: Sequence[Part], text: str) -> list[Part]:
    """The parts of an answer before its last turn, which has added `text`."""
    *earlier, last = rounds(whole) or [[]]
    if last and last[-1]["type"] == RESULT:
        return list(whole)
    kept = _joined(last, (TEXT, REFUSAL)).removesuffix(text)
    cut = said(_joined(last, (REASONING,)), kept, ()) if kept else []
    return [part for one in earlier for part in one] + cut


def chat(role: str, content: str, parts: Sequence[Part], *, reasoning: bool = False) -> list[Chat]:
    """The chat messages for a message; [] for an empty answer.

    `reasoning`: with the reasoning, for models that want it back.
    """
    if role != "assistant":
        return [{"role": role, "content": _pictured(parts) if parts else content}]
    if not parts:
        return [{"role": role, "content": content}] if content else []
    messages: list[Chat] = []
    for one in rounds(parts):
        messages += _round(one, reasoning=reasoning)
    return messages


def folded(messages: Iterable[Chat]) -> list[dict[str, Any]]:
    """Chat messages of user, assistant and tool as `{role, content, parts?}`: an exchange's rounds are one.

    The reverse of `chat`. As `arranged`, but without empty messages and those of the system.
    """
    _, said = arranged((), [message for message in messages if message["role"] != "system"])
    records = [{"role": role, "content": text_of(parts), "parts": parts} for role, parts in said]
    return [_without_plain_parts(record) for record in records if _says_something(record)]


def arranged(
    before: Sequence[Part], messages: Iterable[Chat]
) -> tuple[list[Part], list[tuple[str, list[Part]]]]:
    """Sorts chat messages that follow an answer. Returns the parts of the answer with the messages that go on
    with it, and (role, parts) of the messages behind.

    Results of unknown calls are left out; calls without a result stay.
    """
    first = exchange = _Exchange.of(before) if before else None
    found: list[tuple[str, list[Part] | _Exchange]] = []
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if role == "tool":
            if exchange is not None:
                exchange.answer(message["tool_call_id"], content)
        elif role == "assistant":
            if exchange is None or not exchange.goes_on:
                exchange = _Exchange()
                found.append((role, exchange))
            exchange.add([*_of_content(content), *map(_call_part, message.get("tool_calls") or ())])
        else:
            exchange = None
            found.append((role, _of_content(content)))
    said = [(role, one.parts() if isinstance(one, _Exchange) else one) for role, one in found]
    return first.parts() if first is not None else [], [(role, one) for role, one in said if one]


class _Exchange:
    """The rounds of an answer while messages are added to it; the time grows linearly with their number."""

    def __init__(self) -> None:
        self._said: list[list[Part]] = []
        self._results: list[dict[str, Part]] = []  # of each round, by the call
        self._rounds_of: dict[str, list[int]] = {}  # by the call: the rounds that have it, the newest last

    @classmethod
    def of(cls, whole: Sequence[Part]) -> _Exchange:
        exchange = cls()
        for one in rounds(whole):
            exchange.add([part for part in one if part["type"] != RESULT])
            for part in one:
                if part["type"] == RESULT:
                    exchange._results[-1][part["tool_call_id"]] = part
        return exchange

    @property
    def goes_on(self) -> bool:
        """Does it end with results? Then the model's next message belongs to it."""
        return bool(self._results and self._results[-1])

    def add(self, said: list[Part]) -> None:
        if not said:
            return
        for call_id in {part["id"] for part in said if part["type"] == CALL}:
            self._rounds_of.setdefault(call_id, []).append(len(self._said))
        self._said.append(said)
        self._results.append({})

    def answer(self, call_id: str, content: str) -> None:
        """As `with_results`: rounds after that of the call are dropped, and results of unknown calls too."""
        if not self._rounds_of.get(call_id):
            return
        number = self._rounds_of[call_id][-1]
        while len(self._said) > number + 1:
            self._results.pop()
            for known in {part["id"] for part in self._said.pop() if part["type"] == CALL}:
                self._rounds_of[known].pop()
        self._results[number][call_id] = result(call_id, content)

    def parts(self) -> list[Part]:
        found: list[Part] = []
        for said, results in zip(self._said, self._results, strict=True):
            found += said
            found += [results[part["id"]] for part in said if part["type"] == CALL and part["id"] in results]
        return found


def _says_something(record: dict[str, Any]) -> bool:
    if record["role"] == "user":
        return bool(record["parts"])
    return bool(record["content"]) or has_results(record["parts"])


def _without_plain_parts(record: dict[str, Any]) -> dict[str, Any]:
    if all(part["type"] in (TEXT, REASONING) for part in record["parts"]):
        return {"role": record["role"], "content": record["content"]}
    return record


def _round(parts: Sequence[Part], *, reasoning: bool) -> list[Chat]:
    known = {part["tool_call_id"] for part in parts if part["type"] == RESULT}
    calls = [chat_call(part) for part in parts if part["type"] == CALL and part["id"] in known]
    text = _joined(parts, (TEXT, REFUSAL))
    if not text and not calls:
        return []
    message: Chat = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = calls
    if reasoning and (thoughts := _joined(parts, (REASONING,))):
        message["reasoning"] = thoughts
    results = [
        {"role": "tool", "tool_call_id": part["tool_call_id"], "content": part["content"]}
        for part in parts
        if part["type"] == RESULT
    ]
    return [message, *(results if calls else [])]


def _pictured(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """A user's content: a text where that is all, since not every model takes lists."""
    if all(part["type"] == TEXT for part in parts):
        return _joined(parts, (TEXT,))
    return [
        _image_chat(part) if part["type"] == IMAGE else {"type": "text", "text": part.get("text", "")}
        for part in parts
    ]


def _image_chat(part: Part) -> dict[str, Any]:
    """`pixels`, where they are known, are for counting tokens; no model is sent them (engine/pictures.py)."""
    url = part["url"] if "url" in part else f"{REF}{part['ref']}"
    told: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    return {**told, "pixels": [part["width"], part["height"]]} if "width" in part else told


def _of_content(content: str | list[dict[str, Any]]) -> list[Part]:
    if isinstance(content, str):
        return [{"type": TEXT, "text": content}] if content else []
    return [
        image(part["image_url"]["url"])
        if part["type"] == "image_url"
        else {"type": TEXT, "text": part["text"]}
        for part in content
    ]


def image(url: str, media_type: str = "") -> Part:
    """An image by its https URL, or by its digest behind `image:`."""
    named = {"ref": url[len(REF) :]} if url.startswith(REF) else {"url": url}
    part: Part = {"type": IMAGE, **named}
    return {**part, "media_type": media_type} if media_type else part


def _call_part(call: dict[str, Any]) -> Part:
    function = call["function"]
    return {"type": CALL, "id": call["id"], "name": function["name"], "arguments": function["arguments"]}


def chat_call(part: Part) -> dict[str, Any]:
    """A call as chat completions have it."""
    function = {"name": part["name"], "arguments": part["arguments"]}
    return {"id": part["id"], "type": "function", "function": function}


def _joined(parts: Iterable[Part], kinds: Sequence[str]) -> str:
    return "".join([part["text"] for part in parts if part["type"] in kinds])
