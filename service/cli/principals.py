"""`python -m service principals ...`: limits of their own for subjects of JWTs, and for groups of theirs.

Works with or without a running service; replicas follow within seconds. A subject that was never seen may
have an entry. Which of several entries counts is decided by api/auth/principal_cache.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from service.cli.keys import in_store, text
from service.cli.listening import Refused
from service.cli.own_limits import DEFAULT, add_options, given, operator, table, told
from service.config.settings import Settings
from service.store.principals import MOST, Entry, Principals, named
from service.telemetry.logs import get_logger

Command = Callable[[Principals, Entry, argparse.Namespace], Awaitable[int]]

_HEAD: Final = ("ID", "NAME", "ISSUER", "LIMITS")

audit = get_logger("service.audit")


def main(argv: list[str], settings: Settings) -> int:
    wishes = _parser().parse_args(argv)
    entry = Entry("")
    if wishes.run is not _list:
        try:
            entry = named(wishes.subject, wishes.group, wishes.issuer, settings.jwt_issuer)
        except ValueError as error:
            raise Refused(str(error)) from None
    return in_store(settings, lambda store: wishes.run(store.principals, entry, wishes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service principals",
        description="Limits of single persons and groups (CHAT_AUTH=jwt).",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("list", help="show all who have limits of their own").set_defaults(run=_list)
    set_ = _of_one(commands.add_parser("set", help="change limits, the others stay as they are"), _set)
    add_options(set_, default=True)
    _of_one(commands.add_parser("show", help="show one's limits"), _show)
    _of_one(commands.add_parser("unset", help="the settings' limits hold again"), _unset)
    return parser


def _of_one(parser: argparse.ArgumentParser, run: Command) -> argparse.ArgumentParser:
    parser.set_defaults(run=run)
    parser.add_argument("subject", nargs="?", type=text, help="as the token's `sub` says it")
    parser.add_argument("--group", type=text, metavar="NAME", help="a group instead (CHAT_JWT_GROUPS_CLAIM)")
    parser.add_argument("--issuer", metavar="ISS", help="whose tokens, where CHAT_JWT_ISSUER is not one")
    return parser


async def _set(store: Principals, entry: Entry, wishes: argparse.Namespace) -> int:
    wanted = given(wishes)
    if not wanted:
        raise Refused("say what is to change, for example --budget-month 1000000")
    removed = [name for name, value in wanted.items() if value == DEFAULT]
    limits = {name: value for name, value in wanted.items() if name not in removed}
    if not await store.set(replace(entry, **limits), removed):
        raise Refused(f"{MOST} have limits of their own, which is the most; unset some")
    audit.info("audit.own_limits_set", subject=entry.id, limits=limits, removed=removed, by=operator())
    return await _show(store, entry, wishes)


async def _show(store: Principals, entry: Entry, wishes: argparse.Namespace) -> int:
    found = await store.get(entry.id)
    if found is None:
        raise Refused(f"{entry.id} has no limits of its own")
    table([_HEAD, _row(found)])
    return 0


async def _unset(store: Principals, entry: Entry, wishes: argparse.Namespace) -> int:
    if not await store.unset(entry.id):
        raise Refused(f"{entry.id} has no limits of its own")
    audit.info("audit.own_limits_unset", subject=entry.id, by=operator())
    return 0


async def _list(store: Principals, entry: Entry, wishes: argparse.Namespace) -> int:
    table([_HEAD, *(_row(entry) for entry in await store.all())])
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    return entry.id, entry.name, entry.issuer or "-", told(entry)
