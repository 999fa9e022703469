"""The store: fakeredis's data and commands, the service's real Lua scripts, a clock that is virtual.

`Redis.execute` carries out one command as a single-threaded server does. Scripts are compiled once per
process and not once per call, which is what makes fakeredis itself too slow here (2 ms for an append). Real
Redis says more than fakeredis does: INFO with the replication id is added. `Snapshot` is a replica that
lagged behind. Who asks, and how long it takes, is network.py's; what must hold is oracle.py's.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final

import lupa.lua51 as lua
import redis
from fakeredis._commands import SUPPORTED_COMMANDS
from fakeredis._core import FakeServer
from fakeredis._helpers import SimpleError, SimpleString
from fakeredis._msgs import FLAG_LEAVE_EMPTY_VAL
from fakeredis._socket._fakesocket import FakeSocket
from fakeredis._socket._resp import convert_to_resp2
from fakeredis.commands_mixins.scripting_mixin import _cjson_lua_to_python, _cjson_python_to_lua

from service.store.connection.scripts import Scripts
from service.store.connection.typed_scripts import files, header_of
from tests.simulation.commands import LONG_WAY, SHORT

_RUNTIME: Final = lua.LuaRuntime(encoding=None, unpack_returned_tuples=True)
_COMPILED: Final[dict[bytes, Any]] = {}
_NAMES: Final[dict[bytes, str]] = {}  # of the service's scripts, by their hash
_HEADERS: Final = {name: header_of(name, source) for name, source in files().items()}
_OK: Final = SimpleString(b"OK")
_SIGNATURES: Final = {name.upper().encode(): signature for name, signature in SUPPORTED_COMMANDS.items()}

#: what is told of every command that was carried out: (script or command, its keys, what a script was given
#: by name or a command's arguments as `args`, the reply)
Told = Callable[[str, Sequence[bytes], Mapping[str, Any], Any], None]


class Redis:
    """One server's keys. `told` hears of each command after it was carried out."""

    def __init__(self, chance: Random, publish: Callable[[bytes, bytes], None]) -> None:
        self._chance = chance
        self._publish = publish
        self._socket = FakeSocket(FakeServer(), 0, client_class=redis.Redis)
        self._socket._client_info["resp"] = 3
        self._socket._server.lock.acquire()
        self._db = self._socket._server.dbs[0]
        setattr(self._db, "notify_watch", lambda _: None)  # noqa: B010 - nobody blocks here, and it is slow
        self._known: set[bytes] = set()  # scripts that this server was sent
        self.told: Told | None = None
        self.script = ""  # that was carried out last
        self.start()

    def start(self) -> None:
        """A server that has just begun: a history of its own, and no scripts."""
        self.history = f"{self._chance.getrandbits(160):040x}".encode()
        self._known.clear()

    def execute(self, command: Sequence[bytes]) -> Any:
        name, *args = command
        self._db.time = time.time()
        word = name.upper()
        self.script = ""
        if word in (b"EVALSHA", b"EVAL"):
            return self._script(word, args)
        try:
            reply = self._call(word, args)
        except SimpleError as error:
            return error
        if self.told is not None:
            self.told(word.decode(), (), {"args": args}, reply)
        return reply

    def evict(self, key: bytes) -> None:
        """As a server does that is full and may forget."""
        self._db.pop(key)

    def value(self, key: bytes) -> Any:
        """What stands at a key, as fakeredis keeps it; None where there is nothing."""
        item = self._db.get(key)
        return None if item is None else item.value

    def seconds(self, key: bytes) -> float | None:
        """How long a key lives; None where there is none."""
        item = self._db.get(key)
        if item is None:
            return None
        return float("inf") if item.expireat is None else item.expireat - self._db.time

    def names(self) -> list[bytes]:
        return list(self._db)

    def hash(self, key: bytes) -> dict[bytes, bytes]:
        value = self.value(key)
        return {} if value is None else value._values

    def log(self, key: bytes, begin: int = 0) -> list[tuple[int, bytes]]:
        """A stream's ids and payloads, from its entry number `begin` on."""
        stream = self.value(key)
        return [] if stream is None else [(i.ts, stream._values_dict[i][1]) for i in stream._ids[begin:]]

    def length(self, key: bytes) -> int:
        """Entries of a stream."""
        stream = self.value(key)
        return 0 if stream is None else len(stream._ids)

    def _call(self, word: bytes, args: Sequence[bytes]) -> Any:
        if word == b"INFO":
            return (
                b"used_memory:1000000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
                b"role:master\r\nmaster_replid:%b\r\n" % self.history
            )
        if word == b"TIME":
            now = round(time.time() * 1e6)
            return [b"%d" % (now // 1_000_000), b"%d" % (now % 1_000_000)]
        short = SHORT.get(word)
        if short is not None and (reply := short(self._db, args)) is not LONG_WAY:
            flat = type(reply) is dict and self._socket._script_resp == 2
            return [part for pair in reply.items() for part in pair] if flat else reply
        if word == b"PUBLISH":
            self._publish(args[0], args[1])
            return 0
        if word == b"PING":
            return SimpleString(b"PONG")
        # As FakeSocket._run_command, without what nobody here asks for: half of its time.
        signature = _SIGNATURES[word]
        values, *items = signature.apply(args, self._db, self._socket.version)
        if not items:
            return values  # a key is missing: what that means is the reply
        result = getattr(self._socket, signature.func_name)(*values)
        for item in items[0]:
            item.writeback(remove_empty_val=FLAG_LEAVE_EMPTY_VAL not in signature.flags)
        return convert_to_resp2(result) if self._socket._script_resp == 2 else result

    # Scripts

    def _script(self, word: bytes, args: Sequence[bytes]) -> Any:
        source, number, *rest = args
        digest = source
        if word == b"EVAL":
            digest = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
            self._known.add(digest)
            if digest not in _COMPILED:
                script = source.partition(b"\n")[2] if source.startswith(b"#!") else source  # Redis's flags
                _COMPILED[digest] = _RUNTIME.eval(b"function(KEYS, ARGV) " + script + b"\nend")
        elif digest not in self._known:
            return SimpleError("NOSCRIPT No matching script.")
        keys, values = rest[: int(number)], rest[int(number) :]
        _current[0] = self
        self._socket._script_resp = 2
        try:
            answer = _COMPILED[digest](_RUNTIME.table_from(keys), _RUNTIME.table_from(values))
            reply = _from_lua(answer)
        except SimpleError as error:
            reply = error
        finally:
            self._socket._script_resp = None
        self.script = _NAMES.get(digest, "")
        if self.told is not None:
            self.told(self.script, keys, _given(self.script, keys, values) if self.script else {}, reply)
        return reply


class Snapshot:
    """Everything as it was; it may come back once."""

    def __init__(self, server: Redis) -> None:
        self._data = copy.deepcopy(server._db._dict)

    def come_back(self, server: Redis) -> None:
        server._db._dict.clear()
        server._db._dict.update(self._data)
        server._db._expiry_heap.clear()
        server.start()


def learn(scripts: Scripts) -> None:
    """Which hash is which of the service's scripts."""
    for name, digest in scripts._hashes.items():
        _NAMES[digest.encode()] = name


def _given(name: str, keys: Iterable[bytes], args: Iterable[bytes]) -> dict[str, Any]:
    """What a script was called with, by the names of its header; a call is such a dict itself."""
    key, arg, header = deque(keys), deque(args), _HEADERS[name]
    found: dict[str, Any] = {one: key.popleft() for one, kind in header.keys.items() if kind == "key"}
    lists = [one for one, kind in header.args.items() if kind == "call" or kind.endswith("...")]
    found |= {one: arg.popleft() for one in header.args if one not in lists}
    for one in lists:
        if header.args[one] == "call":
            script, of_keys, of_args = arg.popleft().decode(), int(arg.popleft()), int(arg.popleft())
            sent = [key.popleft() for _ in range(of_keys)], [arg.popleft() for _ in range(of_args)]
            found[one] = _given(script, *sent) if script else {}
        else:
            found[one] = [arg.popleft() for _ in range(int(arg.popleft()))]
    return found | {one: list(key) for one, kind in header.keys.items() if kind == "key..."}


# From Lua and back

_current: Final[list[Any]] = [None]


def _redis_call(op: bytes, *args: Any) -> Any:
    values = [arg if type(arg) is bytes else f"{arg:.17g}".encode() for arg in args]
    return _to_lua(_current[0]._call(op.upper(), values))


def _redis_pcall(op: bytes, *args: Any) -> Any:
    try:
        return _redis_call(op, *args)
    except (SimpleError, KeyError) as error:
        return _RUNTIME.table_from({b"err": str(error).encode()})


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _to_lua(reply: Any) -> Any:
    if isinstance(reply, bytes | int):
        return reply
    if reply is None:
        return False
    if isinstance(reply, list):
        return _RUNTIME.table_from([_to_lua(item) for item in reply])
    if isinstance(reply, SimpleString):
        return _RUNTIME.table_from({b"ok": reply.value})
    raise TypeError(f"a script got {reply!r}")


def _from_lua(answer: Any) -> Any:
    if answer is None or answer is False:
        return None
    if answer is True:
        return 1
    if isinstance(answer, float):
        return int(answer)
    if lua.lua_type(answer) != "table":
        return answer
    if answer[b"err"] is not None:
        return SimpleError(answer[b"err"].decode())
    if answer[b"ok"] is not None:
        return SimpleString(answer[b"ok"])
    found: list[Any] = []
    while (item := answer[len(found) + 1]) is not None:
        found.append(_from_lua(item))
    return found


def _encode(value: Any) -> bytes:
    return json.dumps(_cjson_lua_to_python(value), separators=(",", ":")).encode()


def _decode(text: bytes) -> Any:
    return _RUNTIME.table_from(_cjson_python_to_lua(json.loads(text)), recursive=True)


_RUNTIME.eval(
    b"""function(call, pcall, sha1hex, encode, decode)
      redis = {call = call, pcall = pcall, sha1hex = sha1hex}
      cjson = {encode = encode, decode = decode}
    end"""
)(_redis_call, _redis_pcall, _sha1hex, _encode, _decode)
