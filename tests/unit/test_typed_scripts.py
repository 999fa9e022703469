"""Scripts and the Python that calls them: calls are made of the headers, and Lua counts nothing."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import lupa.lua51
import pytest

from service.store.connection import lua
from service.store.connection.typed_scripts import (
    NO_CALL,
    Call,
    binding,
    files,
    header_of,
    preamble,
    sources,
    text_of,
)
from service.store.keys import PrincipalKeys, SessionKeys
from tests.docs import lua_types

SERVICE = Path(__file__).parents[2] / "service"

HEADER = """-- probe: of a test.
--
-- KEYS: turn, log (a note, with a comma)
-- ARGV: epoch int, claim str (the owner's),
--       force flag, share num,
--       fields str... (field, value, ...), ids int..., inner call
-- Returns nothing
"""


def test_a_header_says_the_names_and_types_in_their_order() -> None:
    found = header_of("probe", HEADER)
    assert [*found.keys.items()] == [("turn", "key"), ("log", "key")]
    assert [*found.args.items()] == [
        ("epoch", "int"),
        ("claim", "str"),
        ("force", "flag"),
        ("share", "num"),
        ("fields", "str..."),
        ("ids", "int..."),
        ("inner", "call"),
    ]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("-- KEYS: turn\n", "the header of x.lua names no KEYS or no ARGV"),
        ("-- KEYS: turn\n-- ARGV: epoch\n", "the header of x.lua has `epoch `, which is no name and type"),
        (
            "-- KEYS: turn\n-- ARGV: a integer\n",
            "the header of x.lua has `a integer`, which is no name and type",
        ),
        ("-- KEYS: turn\n-- ARGV: turn str\n", "the header of x.lua has a name twice"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_with_a_sentence(source: str, sentence: str) -> None:
    with pytest.raises(TypeError) as raised:
        header_of("x", source)
    assert str(raised.value) == sentence


def test_a_call_with_a_name_too_few_or_too_many_is_refused() -> None:
    attend = binding("attend", header_of("attend", files()["attend"]))
    with pytest.raises(TypeError, match=r"attend\.lua\(\) missing 1 required keyword-only argument: 'turn'"):
        attend()
    with pytest.raises(TypeError, match=r"attend\.lua\(\) got an unexpected keyword argument 'log'"):
        attend(turn="t", log="l")


def received(source: str, call: Call) -> dict[str, Any]:
    """What a script that returns a table is given by a call, as Redis sends it: all of it as text."""
    sent = [value if isinstance(value, bytes) else str(value).encode() for value in call.args]
    runtime = lupa.lua51.LuaRuntime(encoding=None)
    run: Any = runtime.eval(f"function(KEYS, ARGV) {source} end".encode())
    keys = [key.encode() for key in call.keys]
    return {key.decode(): _plain(value) for key, value in run(*map(runtime.table_from, (keys, sent))).items()}


def _plain(value: Any) -> Any:
    if lupa.lua51.lua_type(value) != "table":
        return value
    return list(value.values()) if list(value) == list(range(1, len(value) + 1)) else dict(value.items())


def test_a_script_gets_what_it_was_called_with_by_name_and_type() -> None:
    header = header_of("probe", HEADER)
    returned = ", ".join(f"{name} = {name}" for name in header.names if name != "inner")
    inner = "inner_script = inner.script, inner_keys = inner.KEYS, inner_args = inner.ARGV"
    source = preamble(header) + f"return {{{returned}, {inner}}}"
    given = {"turn": "t", "log": "l", "epoch": 7, "claim": "c", "force": True, "share": 0.5}
    call = binding("probe", header)(
        **given, fields=["a", 1, b"b", 2.5], ids=[5, 6], inner=Call("own", ("k", "m"), ("x", 9))
    )
    assert received(source, call) == {
        "turn": b"t",
        "log": b"l",
        "epoch": 7,
        "claim": b"c",
        "force": True,
        "share": 0.5,
        "fields": [b"a", b"1", b"b", b"2.5"],
        "ids": [5, 6],
        "inner_script": b"own",
        "inner_keys": [b"k", b"m"],
        "inner_args": [b"x", b"9"],
    }
    call = binding("probe", header)(**{**given, "force": False}, fields=[], ids=[], inner=NO_CALL)
    found = received(source, call)
    assert (found["force"], found["fields"], found["ids"]) == (False, [], [])
    assert (found["inner_script"], found["inner_keys"], found["inner_args"]) == (b"", [], [])


def test_keys_that_are_a_list_are_all_that_are_left() -> None:
    header = header_of("x", "-- KEYS: mark, windows...\n-- ARGV: by str\n")
    source = preamble(header) + "return {mark = mark, windows = windows, by = by}"
    call = binding("x", header)(mark="m", windows=["a", "b"], by="me")
    assert received(source, call) == {"mark": b"m", "windows": [b"a", b"b"], "by": b"me"}
    call = binding("x", header)(mark="m", windows=[], by="me")
    assert received(source, call) == {"mark": b"m", "windows": [], "by": b"me"}


@pytest.mark.parametrize("number", [3_999, 4_000, 4_001, 20_000])
def test_a_list_may_be_longer_than_the_stack_of_lua(number: int) -> None:
    header = header_of("x", "-- KEYS: none\n-- ARGV: ids str..., inner call\n")
    source = preamble(header) + "return {ids = ids, args = inner.ARGV, last = inner.script}"
    words = [str(i) for i in range(number)]
    found = received(source, binding("x", header)(ids=words, inner=Call("own", (), words)))
    assert found == {"ids": [*map(str.encode, words)], "args": [*map(str.encode, words)], "last": b"own"}


def test_a_file_that_is_included_is_a_function_with_a_preamble_of_its_own() -> None:
    written = {
        "outer": "-- KEYS: key\n-- ARGV: inner call\n-- include twice\n-- include add\n"
        "return {got = add(twice(inner.KEYS, inner.ARGV), 1)}",
        "twice": "-- KEYS: key\n-- ARGV: number int\nreturn 2 * number",
        "add": "-- Takes: one, other\nreturn one + other",
    }
    inner = binding("twice", header_of("twice", written["twice"]))(key="k", number=20)
    call = binding("outer", header_of("outer", written["outer"]))(key="k", inner=inner)
    assert received(text_of("outer", written), call) == {"got": 41}


# The scripts as they are


@pytest.mark.parametrize("name", sorted(sources()))
def test_every_script_is_valid_as_redis_gets_it_and_has_a_function_that_calls_it(name: str) -> None:
    lupa.lua51.LuaRuntime().eval(f"function(KEYS, ARGV) {sources()[name]}\nend")
    assert hasattr(lua, name)


def test_what_mypy_compares_calls_with_is_made_of_the_headers() -> None:
    assert lua_types.FILE.read_text() == lua_types.document(), "run `make docs`"


def test_a_call_takes_keys_of_a_session_or_of_a_principal_from_these() -> None:
    session, caller = SessionKeys("chat", "p", "s"), PrincipalKeys("chat", "p")
    sent = lua.window(session, below="+inf", most=2, most_bytes=3)
    assert sent == Call("window", (session.order, session.messages), ("+inf", 2, 3))
    sent = lua.hold(caller, lease_ms=1, ttl=2, turn_ids=["t"])
    assert sent == Call("hold", (caller.running, caller.reserved, caller.sum), (1, 2, 1, "t"))


_REDIS = {"redis", "cjson", "KEYS", "ARGV"}
_LUA = {"ipairs", "pairs", "math", "string", "table", "tonumber", "type", "tostring", "unpack"}


@pytest.mark.parametrize("name", sorted(sources()))
def test_no_script_reads_or_writes_a_global_of_its_own(name: str) -> None:
    """A misspelt name is one, and Redis minds it only where it comes to it."""
    runtime = lupa.lua51.LuaRuntime(encoding=None)
    compiled = runtime.globals()[b"loadstring"](sources()[name].encode())
    assert globals_of(Bytecode(runtime.globals()[b"string"][b"dump"](compiled))) <= _REDIS | _LUA


class Bytecode:
    """What string.dump of Lua 5.1 gives, read from its head on (ldump.c; 64 bits)."""

    def __init__(self, dumped: bytes) -> None:
        assert dumped[:12] == b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00", dumped[:12]
        self._dumped, self._at = dumped, 12

    def take(self, form: str) -> Any:
        found = struct.unpack_from(f"<{form}", self._dumped, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found[0] if len(found) == 1 else found

    def text(self) -> bytes:
        size = self.take("Q")
        return bytes(self.take(f"{size}s")[:-1]) if size else b""

    def constant(self) -> Any:
        kind = self.take("B")
        return {0: lambda: None, 1: lambda: self.take("?"), 3: lambda: self.take("d"), 4: self.text}[kind]()


def globals_of(code: Bytecode) -> set[str]:
    """Of a function and those in it: operands of GETGLOBAL (5) and SETGLOBAL (7)."""
    code.text()
    code.take("ii4B")
    instructions = [code.take("I") for _ in range(code.take("i"))]
    constants = [code.constant() for _ in range(code.take("i"))]
    found = {constants[one >> 14].decode() for one in instructions if one & 63 in (5, 7)}
    for _ in range(code.take("i")):
        found |= globals_of(code)
    for _ in range(code.take("i")):  # lines
        code.take("i")
    for _ in range(code.take("i")):  # names of locals
        code.text()
        code.take("ii")
    for _ in range(code.take("i")):  # and of what is outside
        code.text()
    return found


@pytest.mark.parametrize("name", sorted(files()))
def test_no_script_counts_its_arguments_by_hand_or_builds_a_key(name: str) -> None:
    code = "\n".join(line.partition("--")[0] for line in files()[name].splitlines())
    assert re.findall(r"(?<![.])\b(?:KEYS|ARGV)\b", code) == []  # `limiting.KEYS` are those of a call
    assert re.findall(r"redis\.p?call\('[A-Z]+', [^,()]*\.\.", code) == []


def test_all_lua_stands_in_lua() -> None:
    elsewhere = [file for file in SERVICE.rglob("*.py") if "redis.call(" in file.read_text()]
    assert elsewhere == []
