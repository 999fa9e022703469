"""Tool calls of one answer, numbered: which delta belongs to which call.

Groq sends a call whole, with an index and an id. Other servers leave the index out, give all calls
the same one, leave the id out, or say a call's name with every piece. Invariants: each delta that leaves
here has an index, and the first of a call an id; different calls have different ones, and a delta whose call
is not certain raises Ambiguous: two calls are never merged by guess.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from service import ids

# More calls than a model makes in one answer (OpenAI and Groq allow 128 tools).
_MOST: Final = 1_024


class Ambiguous(Exception):
    """It is not certain which call a delta belongs to, or it is no delta of a call."""


class _Call:
    def __init__(self, index: int, given: int | None) -> None:
        self.index = index
        self.given = given  # the provider's index, None without one
        self.id = ""
        self.named = False  # we have made its id, since the provider began it without one
        self.name = ""
        self.arguments: list[str] = []

    @property
    def is_empty(self) -> bool:
        return not any(self.arguments)

    @property
    def is_whole(self) -> bool:
        """Its arguments are a JSON object: nothing can follow."""
        if self.is_empty or not self.arguments[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(msgspec.json.decode("".join(self.arguments)), dict)
        except (msgspec.MsgspecError, RecursionError):
            return False


class ToolCalls:
    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._sure: dict[int | None, _Call] = {}  # calls that their index alone identifies

    def numbered(self, delta: dict[str, Any]) -> dict[str, Any]:
        """The delta with its call's index, and without a name that was said before. Raises Ambiguous."""
        function = delta.get("function") or {}
        given = delta.get("index")
        sure = self._sure.get(given) if type(given) is int and not delta.get("id") else None
        if sure is not None and type(function) is dict and len(function) == 1 and len(delta) == 2:
            piece = function.get("arguments")
            if type(piece) is str:  # most deltas of a call that comes in pieces
                sure.arguments.append(piece)
                return delta
        if not isinstance(function, dict) or not (
            given is None or (type(given) is int and 0 <= given < _MOST)
        ):
            raise Ambiguous
        id, name, arguments = _text(delta.get("id")), _text(function.get("name")), function.get("arguments")
        if isinstance(arguments, dict):  # the object itself instead of its JSON
            arguments = msgspec.json.encode(arguments).decode()
        arguments = _text(arguments)
        call = self._known(given, id, name, bool(arguments.strip()))
        fresh = call is None
        if call is None:
            call = self._begun(given, id, name)
        elif name:
            name = _rest_of_name(call, name)
        call.id = call.id or id
        call.name += name
        if arguments:
            call.arguments.append(arguments)
        told = {"name": name} if name else {}
        if arguments or "arguments" in function:
            told["arguments"] = arguments
        # Other fields are dropped: not every value of a provider's can be encoded again.
        words = {key: delta[key] for key in ("id", "type") if isinstance(delta.get(key), str)}
        found = {**words, "function": told, "index": call.index}
        if fresh and not id:  # else nobody could say which call a result is of
            call.named, found["id"] = True, ids.new_call_id()
        elif call.named:
            found.pop("id", None)
        return found

    def _known(self, given: int | None, id: str, name: str, says: bool) -> _Call | None:
        """The call that a delta goes on with, None where it begins one; `says`: it has arguments."""
        calls = self._calls if given is None else [call for call in self._calls if call.given == given]
        if not calls:
            return None
        last = calls[-1]
        same = [call for call in calls if call.id == id] if id else []
        if not name:
            if same:
                return same[-1]
            if given is not None and len(calls) == 1:
                return last
            open_last = not last.is_whole and all(call.is_whole for call in calls[:-1])
            if not id and (open_last or not says):
                return last
            raise Ambiguous
        if same:
            if says and same[-1].is_whole:
                raise Ambiguous
            return same[-1]
        if id and last.id:
            if last.is_whole or last.is_empty:
                return None
            raise Ambiguous
        if last.is_whole and says:
            return None
        if given is None or last.is_whole:
            raise Ambiguous
        return last

    def _begun(self, given: int | None, id: str, name: str) -> _Call:
        if len(self._calls) == _MOST or (given is None and not name):
            raise Ambiguous
        taken = {call.index for call in self._calls}
        if given is None or given in taken:
            call = _Call(max(taken, default=-1) + 1, given)
            self._sure.pop(call.given, None)
        else:
            call = self._sure[given] = _Call(given, given)
        self._calls.append(call)
        return call


def _rest_of_name(call: _Call, name: str) -> str:
    if name == call.name:
        return ""
    if call.name and not call.is_empty:
        raise Ambiguous
    return name


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Ambiguous
    return value
