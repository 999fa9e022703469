"""Groq's stream, decoded from bytes: SSE events, one token each, into batches.

Invariants: lines and events are split as the WHATWG's event-stream format has it (LF, CR LF or CR,
wherever reads cut them; a BOM; several `data:` lines), on bytes only (U+2028 and U+0085 inside data
are text); a garbled event, an error in any of its three shapes and a stream that ends without a
finish_reason raise UpstreamError. A null is as good as a missing field. Tokens that differ from the
one before in their text only are cut out as bytes and decoded together (0.2 us each); anything else
is decoded as JSON.
Source: recorded traffic of Groq's API, 2025-09 to 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from service.errors import UpstreamError
from service.upstream.base import REASONING, TEXT, TOOL, Batch
from service.upstream.refusals import refusal, unavailable
from service.upstream.tool_calls import Ambiguous, ToolCalls
from service.usage import Count, count

# No token and no tool call that a model makes is an SSE event larger than this.
_MAX_EVENT_BYTES: Final = 4 * 1_048_576
# Characters of an answer and its tool calls. The largest model's longest answer is 64k tokens, some 300 KB; a
# provider that never ends would fill the store in the ten minutes that an answer may take.
_MAX_CHARACTERS: Final = 4 * 1_048_576


class Delta(msgspec.Struct):
    """Of a stream; the message of a whole answer has the same fields."""

    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    # Never Groq's: of vLLM and LM Studio, beside `reasoning` or in its place, and of OpenAI's models.
    reasoning_content: str | None = None
    refusal: str | None = None

    def texts(self) -> list[tuple[str, str]]:
        """What it says, in the order in which a model does: thoughts first. A refusal is the answer."""
        said = [
            (REASONING, self.reasoning or self.reasoning_content),
            (TEXT, self.content),
            (TEXT, self.refusal),
        ]
        return [(kind, text) for kind, text in said if text]


class _Choice(msgspec.Struct):
    delta: Delta | None = None
    finish_reason: str | None = None
    index: int | None = None


class _Groq(msgspec.Struct):
    usage: dict[str, Any] | None = None
    error: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: _Groq | None = None
    error: Any = None


class _GroqSays(msgspec.Struct):
    id: Any = None
    seed: Any = None


class CallFacts(msgspec.Struct):
    """What the provider says of a call besides its answer: in the first chunk, and in some later ones."""

    system_fingerprint: Any = None
    service_tier: Any = None
    model: Any = None
    x_groq: _GroqSays | None = None


# Characters of a fact about a call that are kept; ids have some 40.
LONGEST_WORD: Final = 200
_LARGEST_NUMBER: Final = 2**53  # every reader of JSON reads numbers up to here exactly
_LONGEST_TIME: Final = 1e6  # s
_TIMES: Final = ("queue_time", "prompt_time", "completion_time", "total_time")
_BOM: Final = b"\xef\xbb\xbf"
# A field name that the format does not know: the line is ignored.
_FIELD: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_-]*")

_decode: Final = msgspec.json.Decoder(_Chunk).decode
#: what decoders raise; RecursionError where a text is nested deeper than Python's stack
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_decode_facts: Final = msgspec.json.Decoder(CallFacts).decode
_decode_string: Final = msgspec.json.Decoder(str).decode
# Frames that are learned per stream: one for reasoning, one for text, and some more. A provider whose tokens
# differ in more than their text would be learned anew at each of them: it is decoded as JSON.
_LESSONS: Final = 16
_NAMES: Final = {TEXT: b'"content":"', REASONING: b'"reasoning":"'}


class _Frame(NamedTuple):
    """The bytes around the text of a token, where they are the same from token to token."""

    kind: str
    head: bytes
    end: bytes  # of its event
    between: bytes  # the end of one and the head of the next


def _only(choice: _Choice, delta: Delta) -> _Chunk:
    """A chunk that has the text of this one and nothing else: is it equal, it is a plain token."""
    text = Delta(content=delta.content) if delta.content else Delta(reasoning=delta.reasoning)
    return _Chunk(choices=[_Choice(delta=text, index=choice.index)])


def _ours(choices: list[_Choice]) -> _Choice:
    """The choice with index 0, since one was asked for. Two of them are garbled."""
    ours = [choice for choice in choices if not choice.index]
    if len(ours) > 1:
        raise garbled()
    return ours[0] if ours else _Choice()


def keep_facts(said: dict[str, Any], facts: CallFacts, usage: Mapping[str, Any] | None) -> str:
    """Put into `said` what a provider says besides its answer, as far as it is of the expected kind.

    Returns the model that answers, '' where it is not named.
    """
    groq = facts.x_groq or _GroqSays()
    words = {
        "system_fingerprint": facts.system_fingerprint,
        "service_tier": facts.service_tier,
        "id": groq.id,
        "seed": groq.seed,
    }
    for name, word in words.items():
        if (isinstance(word, str) and 0 < len(word) <= LONGEST_WORD) or (
            type(word) is int and abs(word) <= _LARGEST_NUMBER
        ):
            said[name] = word
    times = {name: (usage or {}).get(name) for name in _TIMES}
    if times := {
        name: time
        for name, time in times.items()
        if isinstance(time, int | float) and 0 <= time <= _LONGEST_TIME
    }:
        said["times"] = times
    return facts.model[:LONGEST_WORD] if isinstance(facts.model, str) else ""


def garbled() -> UpstreamError:
    return unavailable("garbled", "The model's answer arrived garbled.", retryable=True)


def cut_short() -> UpstreamError:
    return unavailable("cut", "The model's answer was cut off.", retryable=True)


def plain(text: str) -> str:
    """Without NULs: a later send that has one in its history would be refused."""
    return text.replace("\x00", "\ufffd")


def _add(batch: Batch, kind: str, text: str) -> None:
    """Add a token; to the piece before it if that is of the same kind."""
    if "\x00" in text:
        text = plain(text)
    batch.tokens += 1
    pieces = batch.pieces
    if pieces and pieces[-1][0] == kind:
        pieces[-1] = (kind, pieces[-1][1] + text)
    else:
        pieces.append((kind, text))


class Decoder:
    """Takes the bytes of each read and returns a batch. `finished` once a finish_reason was seen.

    `failure` is an error that came in the same read, behind the last batch: the batch is valid first. `said`:
    see base.Answer.
    """

    def __init__(self) -> None:
        self.failure: UpstreamError | None = None
        self._rest = b""
        self._start: bytes | None = (
            b""  # the bytes so far, while they may be the beginning of a BOM; then None
        )
        self._after_cr = False
        self._odd = True  # one of the two above holds: the next read needs _plain
        self._calls = ToolCalls()
        self._usage: Count = {}
        self._frame: _Frame | None = None
        self._lessons = _LESSONS
        self.finished = False
        self.done = False
        self.said: dict[str, Any] = {}
        self._heard = False  # the first chunk has come
        self._characters = 0

    def feed(self, data: bytes) -> Batch:
        if self._odd or b"\r" in data:
            data = self._plain(data)
        data = self._rest + data
        batch = Batch()
        try:
            while True:
                *events, self._rest = self._alike(data, batch).split(b"\n\n")
                if len(self._rest) > _MAX_EVENT_BYTES:
                    raise garbled()
                learned = self._one_by_one(events, batch)
                if learned == len(events):
                    self._check_length(batch)
                    return batch
                data = b"\n\n".join([*events[learned:], self._rest])
        except UpstreamError as error:
            if not batch.pieces:
                raise
            self.failure = error
            return batch

    def _check_length(self, batch: Batch) -> None:
        for kind, piece in batch.pieces:
            texts = (piece.get("id", ""), *piece["function"].values()) if kind == TOOL else (piece,)
            self._characters += sum(map(len, texts))
        if self._characters > _MAX_CHARACTERS:
            raise garbled()

    def _plain(self, data: bytes) -> bytes:
        """The bytes with LF at the end of every line, and without a BOM."""
        if self._start is not None:
            data = self._start + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._start = data
                return b""
            self._start = None
            data = data.removeprefix(_BOM)
        if self._after_cr and data:
            data = data.removeprefix(b"\n")  # the CR has ended the line
            self._after_cr = False
        self._odd = self._after_cr = self._after_cr or data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _alike(self, data: bytes, batch: Batch) -> bytes:
        """Decode the tokens at the beginning that differ in their text only; returns the rest."""
        frame = self._frame
        if frame is None or not data.startswith(frame.head):
            return data
        texts = data[len(frame.head) :].split(frame.between)
        last, whole, rest = texts.pop().partition(frame.end)
        if whole:
            texts.append(last)
        else:
            rest = frame.head + last
        try:
            text = _decode_string(b'"%b"' % b"".join(texts))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return data  # one of them is something else
        if text:
            _add(batch, frame.kind, text)
            batch.tokens += len(texts) - texts.count(b"") - 1
        return rest

    def _one_by_one(self, events: Sequence[bytes], batch: Batch) -> int:
        """Decode events one by one. Returns how many, which ends at one that has changed the frame."""
        for place, event in enumerate(events):
            frame = self._frame
            if event.startswith(b"data: {"):
                self._chunk(event[6:], batch, event)
            else:
                self._unusual(event, batch)
                if self.done:
                    return len(events)  # nothing of what stands behind the end is of the answer
            if self._frame is not frame:
                return place + 1
        return len(events)

    def _learn(self, body: bytes, chunk: _Chunk, choice: _Choice, delta: Delta) -> None:
        """If the chunk is a text and nothing else, keep its frame: the next ones like it need no JSON."""
        text, kind = (delta.content, TEXT) if delta.content else (delta.reasoning, REASONING)
        if not text or not self._lessons or (self._frame and body.startswith(self._frame.head[6:])):
            return
        before, name, after = body.partition(_NAMES[kind])
        raw = text.encode()
        head = b"data: " + before + name
        if name and after.startswith(raw + b'"') and chunk == _only(choice, delta):
            end = after[len(raw) :] + b"\n\n"
            self._frame = _Frame(kind, head, end, end + head)
            self._lessons -= 1

    def end(self) -> None:
        """The stream has ended. Raises UpstreamError unless the answer is whole."""
        if self.failure is not None:
            raise self.failure
        if self._rest.strip() and not self.finished:
            raise garbled()
        if not self.finished:
            raise cut_short()

    def _unusual(self, event: bytes, batch: Batch) -> None:
        name, data = b"", []
        for line in event.strip(b"\n").split(b"\n"):
            field, colon, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value
            elif field == b"data":
                data.append(value)
            elif field and not (colon and _FIELD.fullmatch(field) and b'"' not in value):
                raise garbled()  # a line that is no field may be a token whose beginning is lost
        body = b"\n".join(data)
        if body.strip() == b"[DONE]":
            self.done = True
        elif name == b"error":
            raise self._failure(body)
        elif body:
            self._chunk(body, batch)

    def _failure(self, body: bytes) -> UpstreamError:
        try:
            document = msgspec.json.decode(body)
        except UNREADABLE:
            return garbled()
        return refusal(0, document if isinstance(document, dict) else {}, {})

    def _chunk(self, body: bytes, batch: Batch, event: bytes = b"") -> None:
        """`event` is the whole event, of which the body may be the first line only."""
        try:
            chunk = _decode(body)
        except UNREADABLE:
            if b"\n" in event:
                self._unusual(event, batch)
                return
            raise garbled() from None
        if chunk.error is not None:
            raise refusal(0, {"error": chunk.error}, {})
        choices = chunk.choices
        if choices:
            choice = choices[0]
            if len(choices) > 1 or choice.index:
                choice = _ours(choices)
            delta = choice.delta
            if delta is not None:
                for kind, text in delta.texts():
                    _add(batch, kind, text)
                self._learn(body, chunk, choice, delta)
                if delta.tool_calls:
                    batch.tokens += 1
                    self._add_calls(delta.tool_calls, batch)
            if choice.finish_reason:
                batch.finish_reason = choice.finish_reason[:LONGEST_WORD]
                self.finished = True
        usage, groq = chunk.usage, chunk.x_groq
        if groq is not None or usage or not self._heard:
            self._says(body, usage, groq, batch)

    def _says(self, body: bytes, usage: dict[str, Any] | None, groq: _Groq | None, batch: Batch) -> None:
        """Facts about the call, and usage: what a chunk has besides its piece of the answer."""
        self._heard = True
        if groq is not None and groq.error:
            raise refusal(0, {"error": {"message": str(groq.error)}}, {})
        usage = usage or (groq.usage if groq is not None else None)
        batch.model = keep_facts(self.said, _decode_facts(body), usage) or batch.model
        if usage:
            # A later usage replaces the numbers that it has; none are added up.
            self._usage |= count(usage)
            batch.usage = self._usage.copy()

    def _add_calls(self, calls: list[dict[str, Any]], batch: Batch) -> None:
        try:
            batch.pieces += [(TOOL, self._calls.numbered(call)) for call in calls]
        except Ambiguous:
            raise garbled() from None
