"""Typed scripts: what a Lua file says of its keys and arguments, and the Python function that calls it.

    -- KEYS: turn, log
    -- ARGV: epoch int, claim str, fields str... (field, value, ...)

names each key and argument with its type: str, int, num (a float), flag (a bool), call (of another script,
or NO_CALL). `...` makes it a list; words in parentheses are a note. The loader puts `local turn, log =
KEYS[1], KEYS[2]` and so on in front of the script. A function is made of the header too, which lua.py has by
the script's name: it takes these names by keyword, but keys that `SessionKeys` or `PrincipalKeys` (keys.py)
have from such an object, which comes first.

`-- include name` puts another file there, as a local function of that name: a script takes (KEYS, ARGV), a
file that is a function only (`-- Takes: sizes, ends`) its parameters. Sending a call is scripts.py's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

_FOLDER: Final = Path(__file__).parents[1] / "lua"
#: keys that a call takes from the SessionKeys, or the PrincipalKeys, that it is given first
OF_SESSION: Final = ("session", "order", "messages", "turns", "queue")
OF_PRINCIPAL: Final = ("running", "reserved", "sum", "minute", "day", "month", "sizes", "ends", "listed")
_INCLUDE: Final = re.compile(r"^-- include (\w+)$", re.MULTILINE)
_NOTE: Final = re.compile(r"\([^()]*\)")


@dataclass(frozen=True)
class _Kind:
    """A type of the headers: how Python sends it, how Lua reads it.

    `single` is the value of a local; `lines` fill one that begins `empty`, from what is behind k KEYS and at
    ARGV[a].
    """

    sent: str = "NAME"
    single: str = ""
    empty: str = "{}"
    lines: str = ""


# So many of a list from a place on: at once where Lua's stack has room for them, which takes 8,000.
_SOME: Final = """local function some(list, first, number)
if number <= 4000 then return {unpack(list, first, first + number - 1)} end
local found = {}
for i = 1, number do found[i] = list[first + i - 1] end
return found
end
"""
_MANY: Final = "for i = 1, ARGV[a] + 0 do NAME[i] = VALUE end\na = a + 1 + #NAME\n"
_KINDS: Final = {
    "key": _Kind(single="KEYS[N]"),
    "key...": _Kind(sent="*NAME", lines="for i = 1, #KEYS - k do NAME[i] = KEYS[k + i] end\n"),
    "str": _Kind(single="ARGV[N]"),
    # An addition makes a number of a text in 43 ns, a call of tonumber in 101.
    "int": _Kind(single="ARGV[N] + 0"),
    "num": _Kind(single="ARGV[N] + 0"),
    "flag": _Kind(sent="int(NAME)", single="ARGV[N] == '1'"),
    "str...": _Kind(
        sent="len(NAME), *NAME",
        empty="nil",
        lines="NAME = some(ARGV, a + 1, ARGV[a] + 0)\na = a + 1 + #NAME\n",
    ),
    "int...": _Kind(sent="len(NAME), *NAME", lines=_MANY.replace("VALUE", "ARGV[a + i] + 0")),
    "call": _Kind(
        sent="NAME.script, len(NAME.keys), len(NAME.args), *NAME.args",
        empty="nil",
        lines="NAME = {script = ARGV[a], KEYS = some(KEYS, k + 1, ARGV[a + 1] + 0), "
        "ARGV = some(ARGV, a + 3, ARGV[a + 2] + 0)}\n"
        "k, a = k + #NAME.KEYS, a + 3 + #NAME.ARGV\n",
    ),
}


class Call(NamedTuple):
    """What is sent: the script, its KEYS and its ARGV."""

    script: str
    keys: Sequence[str]
    args: Sequence[Any]


def flat(fields: Mapping[str, Any]) -> list[Any]:
    """Field, value, ..., as scripts take the fields of a hash."""
    return [word for field in fields.items() for word in field]


#: sent where a script may be given a call and is not
NO_CALL: Final = Call("", (), ())


@dataclass(frozen=True)
class Header:
    """Names and types, in their order; `takes` are a function's parameters, None for a script."""

    keys: Mapping[str, str]
    args: Mapping[str, str]
    takes: str | None = None

    @property
    def names(self) -> dict[str, str]:
        return {**self.keys, **self.args}

    @property
    def named(self) -> dict[str, str]:
        """Those that a call names, with their types."""
        owned = self.keys.keys() & {*OF_SESSION, *OF_PRINCIPAL}
        return {name: kind for name, kind in self.names.items() if name not in owned}

    @property
    def in_order(self) -> list[str]:
        """The arguments as they are sent: single values, then those that may be many."""
        return sorted(self.args, key=lambda arg: not _KINDS[self.args[arg]].single)


def _section(word: str, source: str) -> list[str] | None:
    """What stands behind `-- KEYS:`, also on the lines below that are indented."""
    found = re.search(rf"^-- {word}:((?: .*)(?:\n--   .*)*)", source, re.MULTILINE)
    if found is None:
        return None
    parts = [part.strip() for part in _NOTE.sub("", found[1].replace("\n--", " ")).split(",")]
    return [] if parts in (["none"], ["nothing"]) else parts


def header_of(name: str, source: str) -> Header:
    """Raises TypeError, with a sentence."""
    takes = _section("Takes", source)
    if takes is not None:
        return Header({}, {}, ", ".join(takes))
    keys, args = _section("KEYS", source), _section("ARGV", source)
    if keys is None or args is None:
        raise TypeError(f"the header of {name}.lua names no KEYS or no ARGV")
    found = Header(
        {key.removesuffix("..."): "key..." if key.endswith("...") else "key" for key in keys},
        {arg.partition(" ")[0]: arg.partition(" ")[2] for arg in args},
    )
    for parameter, kind in found.names.items():
        if kind not in _KINDS or not parameter.isidentifier():
            raise TypeError(f"the header of {name}.lua has `{parameter} {kind}`, which is no name and type")
    if len(found.names) < len(keys) + len(args):
        raise TypeError(f"the header of {name}.lua has a name twice")
    if "key..." in [*found.keys.values()][:-1] or {"key...", "call"} <= {*found.names.values()}:
        raise TypeError(f"the header of {name}.lua has keys behind a list of keys")
    return found


def preamble(header: Header) -> str:
    """The `local` lines in front of a script."""
    text, many = "local KEYS, ARGV = KEYS, ARGV\n", ""  # globals are looked up by name, each time
    for names in (list(header.keys), header.in_order):
        for number, name in enumerate(names, 1):
            kind = _KINDS[header.names[name]]
            text += f"local {name} = {(kind.single or kind.empty).replace('N]', f'{number}]')}\n"
            many += kind.lines.replace("NAME", name)
    if not many:
        return text
    keys = sum(kind == "key" for kind in header.keys.values())
    args = sum(bool(_KINDS[kind].single) for kind in header.args.values())
    return f"{text}{_SOME}do\nlocal k, a = {keys}, {args + 1}\n{many}end\n"


def text_of(name: str, files: Mapping[str, str]) -> str:
    """A file as Redis gets it: its preamble, and what it includes."""

    def included(found: re.Match[str]) -> str:
        takes = header_of(found[1], files[found[1]]).takes
        parameters = "KEYS, ARGV" if takes is None else takes
        return f"local function {found[1]}({parameters})\n{text_of(found[1], files)}\nend"

    return preamble(header_of(name, files[name])) + _INCLUDE.sub(included, files[name])


@cache
def files() -> dict[str, str]:
    """All files of lua/ by name, as they are written."""
    return {path.stem: path.read_text() for path in sorted(_FOLDER.glob("*.lua"))}


@cache
def sources() -> dict[str, str]:
    """All scripts by name, as Redis gets them."""
    written = files()
    return {
        name: text_of(name, written)
        for name, source in written.items()
        if header_of(name, source).takes is None
    }


def counted() -> list[str]:
    """The scripts that workers call, and count; the other one is the master's."""
    return [name for name in sources() if name != "expire_lease"]


def binding(name: str, header: Header) -> Callable[..., Call]:
    """The function that puts what it is given into the order of the header.

    Made of text, as a named tuple is: it costs what a call by hand would, and refuses names like one.
    """
    named = header.named
    takes = [*(["of", "/"] if len(named) < len(header.names) else []), *(["*", *named] if named else [])]
    keys = [
        f"of.{key}" if key not in named else _KINDS[kind].sent.replace("NAME", key)
        for key, kind in header.keys.items()
    ]
    keys += [f"*{arg}.keys" for arg in header.in_order if header.args[arg] == "call"]
    args = [_KINDS[header.args[arg]].sent.replace("NAME", arg) for arg in header.in_order]
    sent = f"({name!r}, ({', '.join([*keys, ''])}), ({', '.join([*args, ''])}))"
    made = f"lambda {', '.join(takes)}: new(Call, {sent})"
    bound: Callable[..., Call] = eval(made, {"new": tuple.__new__, "Call": Call})
    bound.__qualname__ = f"{name}.lua"
    return bound


def bindings() -> dict[str, Callable[..., Call]]:
    """The functions of all scripts, by the scripts' names."""
    written = files()
    return {name: binding(name, header_of(name, written[name])) for name in sources()}
