"""service/store/connection/lua.pyi, made of the headers of the scripts: what mypy compares each call with.

python -m tests.docs.lua_types --write
"""

from __future__ import annotations

import sys
import textwrap

from service.store.connection.typed_scripts import OF_PRINCIPAL, OF_SESSION, files, header_of, sources
from tests.support.running import ROOT

FILE = ROOT / "service" / "store" / "connection" / "lua.pyi"
HEAD = """\
# Made of the headers of service/store/lua/*.lua by `make docs`.
from collections.abc import Sequence

from service.store.connection.commands import Text
from service.store.connection.typed_scripts import Call
from service.store.keys import PrincipalKeys, SessionKeys

Values = Sequence[Text | int | float]
"""
TYPES = {
    "key": "str",
    "key...": "Sequence[str]",
    "str": "Text",
    "int": "int",
    "num": "float",
    "flag": "bool",
    "str...": "Values",
    "int...": "Sequence[int]",
    "call": "Call",
}


def document() -> str:
    return HEAD + "".join(_function(name) for name in sources())


def _function(name: str) -> str:
    header = header_of(name, files()[name])
    given = [f"{one}: {TYPES[kind]}" for one, kind in header.named.items()]
    takes = ["keys: SessionKeys, /"] if header.keys.keys() & OF_SESSION else []
    takes += ["keys: PrincipalKeys, /"] if header.keys.keys() & OF_PRINCIPAL else []
    takes += ["*", *given] if given else []
    arguments = ", ".join(one.replace(" ", "~") for one in takes)  # which no line ends within
    text = textwrap.fill(f"def~{name}({arguments})~->~Call:~...", 110, subsequent_indent="    ")
    return text.replace("~", " ") + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        FILE.write_text(document())
    else:
        sys.stdout.write(document())
