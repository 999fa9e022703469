"""The commands that scripts use most, on fakeredis's own data: its way to each takes five times as long.

A command that is not here, or whose key holds another type, goes fakeredis's way (store.py). Invariant: what
is here does to the data what fakeredis does, `test_simulation.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from fakeredis._core import Database
from fakeredis.model import Hash

#: what a command that has no short way here returns
LONG_WAY: Final = object()
_NOTHING: Final[dict[bytes, bytes]] = {}


def _fields(db: Database, key: bytes) -> Any:
    """A hash's fields; `LONG_WAY` where the key is something else."""
    item = db.get(key)
    if item is None:
        return _NOTHING
    return item.value._values if type(item.value) is Hash else LONG_WAY


def _hget(db: Database, args: Sequence[bytes]) -> Any:
    fields = _fields(db, args[0])
    return fields if fields is LONG_WAY else fields.get(args[1])


def _hmget(db: Database, args: Sequence[bytes]) -> Any:
    fields = _fields(db, args[0])
    return fields if fields is LONG_WAY else [fields.get(name) for name in args[1:]]


def _hgetall(db: Database, args: Sequence[bytes]) -> Any:
    fields = _fields(db, args[0])
    return fields if fields is LONG_WAY else dict(fields)


def _hstrlen(db: Database, args: Sequence[bytes]) -> Any:
    fields = _fields(db, args[0])
    return fields if fields is LONG_WAY else len(fields.get(args[1], b""))


def _hexists(db: Database, args: Sequence[bytes]) -> Any:
    fields = _fields(db, args[0])
    return fields if fields is LONG_WAY else int(args[1] in fields)


def _hset(db: Database, args: Sequence[bytes]) -> Any:
    fields = _fields(db, args[0])
    if fields is LONG_WAY or fields is _NOTHING or len(args) % 2 == 0:
        return LONG_WAY
    before = len(fields)
    fields.update(zip(args[1::2], args[2::2], strict=True))
    return len(fields) - before


def _hincrby(db: Database, args: Sequence[bytes]) -> Any:
    fields = _fields(db, args[0])
    if fields is LONG_WAY or fields is _NOTHING:
        return LONG_WAY
    try:
        total = int(fields.get(args[1], b"0")) + int(args[2])
    except ValueError:
        return LONG_WAY
    fields[args[1]] = b"%d" % total
    return total


def _get(db: Database, args: Sequence[bytes]) -> Any:
    item = db.get(args[0])
    if item is None:
        return None
    return item.value if type(item.value) is bytes else LONG_WAY


def _exists(db: Database, args: Sequence[bytes]) -> Any:
    return sum(key in db for key in args)


def _expire(db: Database, args: Sequence[bytes]) -> Any:
    item = db.get(args[0])
    if len(args) != 2 or not args[1].isdigit():
        return LONG_WAY
    if item is None:
        return 0
    item.expireat = db.time + int(args[1])
    db.schedule_expiry(args[0], item.expireat)
    return 1


def _of_none(db: Database, args: Sequence[bytes]) -> Any:
    """Of a key that is not there."""
    return LONG_WAY if args[0] in db else []


SHORT: Final[dict[bytes, Callable[[Database, Sequence[bytes]], Any]]] = {
    b"HGET": _hget,
    b"HMGET": _hmget,
    b"HGETALL": _hgetall,
    b"HSTRLEN": _hstrlen,
    b"HEXISTS": _hexists,
    b"HSET": _hset,
    b"HINCRBY": _hincrby,
    b"GET": _get,
    b"EXISTS": _exists,
    b"EXPIRE": _expire,
    b"ZRANGEBYSCORE": _of_none,
    b"ZREVRANGEBYSCORE": _of_none,
    b"ZREVRANGE": _of_none,
    b"ZRANGE": _of_none,
}
