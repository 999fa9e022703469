"""The scripts of lua/ as functions: `lua.attend(turn=...)` is the call of attend.lua, for scripts.py to send.

They are made of the headers when this is imported (typed_scripts.py). What they take stands in lua.pyi, which
`make docs` writes and mypy reads.
"""

from __future__ import annotations

from service.store.connection.typed_scripts import bindings

globals().update(bindings())
