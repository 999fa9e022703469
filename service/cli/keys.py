"""`python -m service keys ...`: make, list, rotate and revoke API keys in the store.

`create` and `rotate` print the key and nothing else, once, `set` the secret of a webhook; what else there is
to say goes to stderr. Works with or without a running service; replicas follow within seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from service import ids
from service.cli.listening import Refused
from service.cli.own_limits import DEFAULT, add_options, given, operator, table, told
from service.config.settings import Settings
from service.config.webhook import check_receiver, new_secret
from service.errors import StoreUnavailable
from service.store.credentials import SCOPES, Credential, Credentials, new_key
from service.store.store import Store
from service.telemetry.logs import get_logger

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 365 * 86_400}

audit = get_logger("service.audit")

Command = Callable[[Credentials, argparse.Namespace], Awaitable[int]]


def main(argv: list[str], settings: Settings) -> int:
    wishes = _parser().parse_args(argv)
    wishes.private_webhooks = settings.webhook_allow_private
    return in_store(settings, lambda store: wishes.run(store.credentials, wishes))


def in_store(settings: Settings, command: Callable[[Store], Awaitable[int]]) -> int:
    """Do something with the store, and say why where that cannot be."""
    if settings.redis_url is None:
        raise Refused("this needs a store: set CHAT_REDIS_URL (this machine has no Redis of its own)")
    return asyncio.run(_in_store(settings, command))


async def _in_store(settings: Settings, command: Callable[[Store], Awaitable[int]]) -> int:
    store = Store(settings, "tool")
    try:
        return await command(store)
    except StoreUnavailable:
        raise Refused("the store cannot be reached: is it running, and is CHAT_REDIS_URL right?") from None
    finally:
        await store.close()


# -- what can be asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service keys", description="API keys (CHAT_AUTH=keys).")
    commands = parser.add_subparsers(required=True, metavar="command")

    create = commands.add_parser("create", help="make a key and print it, once")
    create.set_defaults(run=_create)
    create.add_argument("--name", required=True, type=text, help="what people call it")
    create.add_argument("--owner", type=text, help="keys of one owner share sessions, limits and budgets")
    create.add_argument("--scopes", type=_scopes, default=("chat",), help="chat, admin, or both: chat,admin")
    create.add_argument("--expires", type=_duration, metavar="30d", help="end it after so long (s m h d w y)")
    add_options(create)

    change = commands.add_parser("set", help="change limits or the webhook of a key")
    change.set_defaults(run=_set)
    change.add_argument("id")
    add_options(change, default=True)
    change.add_argument(
        "--webhook-url", metavar="URL", help="told of the end of its turns; a new secret is printed, once"
    )
    change.add_argument("--no-webhook", action="store_true", help="nobody is told any more")

    commands.add_parser("list", help="show all keys, without their secrets").set_defaults(run=_list)

    rotate = commands.add_parser("rotate", help="give a key a new secret and print it, once")
    rotate.set_defaults(run=_rotate)
    rotate.add_argument("id")
    rotate.add_argument(
        "--grace", type=_duration, default=0, metavar="1h", help="let the old one live so long"
    )

    revoke = commands.add_parser("revoke", help="end a key, on all replicas within seconds")
    revoke.set_defaults(run=_revoke)
    revoke.add_argument("id")
    return parser


def text(value: str) -> str:
    if not 1 <= len(value) <= 200 or ids.has_control(value):
        raise argparse.ArgumentTypeError("1 to 200 printable characters, please")
    return value


def _scopes(value: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not found or not set(found) <= set(SCOPES):
        raise argparse.ArgumentTypeError(f"{value!r} is not out of {', '.join(SCOPES)}")
    return found


def _duration(value: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smhdwy])", value.strip())
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{value!r} is not a time like 90s, 15m, 12h, 30d, 2w or 1y")
    return int(found[1]) * _SECONDS[found[2]]


# -- commands


async def _create(store: Credentials, wishes: argparse.Namespace) -> int:
    text, credential = new_key(
        wishes.name,
        owner=wishes.owner,
        scopes=wishes.scopes,
        expires=int(time.time()) + wishes.expires if wishes.expires else None,
        **given(wishes),
    )
    await store.create(credential)
    audit.info("audit.key_created", **credential.told(), by=operator())
    print(text)
    print(f"Keep it: it is not shown again. Its id is {credential.id}.", file=sys.stderr)
    return 0


async def _set(store: Credentials, wishes: argparse.Namespace) -> int:
    changes = {name: None if value == DEFAULT else value for name, value in given(wishes).items()}
    secret = new_secret() if wishes.webhook_url else None
    if wishes.webhook_url or wishes.no_webhook:
        changes |= {"webhook_url": wishes.webhook_url, "webhook_secret": secret}
    if not changes or (wishes.webhook_url and wishes.no_webhook):
        raise Refused("say what is to change, for example --budget-month 1000000 or --webhook-url URL")
    if wishes.webhook_url:
        try:
            check_receiver(wishes.webhook_url, private=wishes.private_webhooks)
        except ValueError as error:
            raise Refused(f"--webhook-url: {error}") from None
    if not await store.change(wishes.id, changes):
        raise Refused(f"there is no key {wishes.id!r}")
    audit.info("audit.key_changed", key=wishes.id, changed=sorted(changes), by=operator())
    if secret:
        print(secret)
        print("It signs what the webhook is told. Keep it: it is not shown again.", file=sys.stderr)
    return 0


async def _rotate(store: Credentials, wishes: argparse.Namespace) -> int:
    text = await store.rotate(wishes.id, wishes.grace)
    if text is None:
        raise Refused(f"there is no key {wishes.id!r} that works")
    audit.info("audit.key_rotated", key=wishes.id, grace_seconds=wishes.grace, by=operator())
    print(text)
    print("Keep it: it is not shown again.", file=sys.stderr)
    return 0


async def _revoke(store: Credentials, wishes: argparse.Namespace) -> int:
    if not await store.revoke(wishes.id):
        raise Refused(f"there is no key {wishes.id!r}")
    audit.info("audit.key_revoked", key=wishes.id, by=operator())
    print(f"The key {wishes.id} is revoked; replicas follow within seconds.", file=sys.stderr)
    return 0


async def _list(store: Credentials, wishes: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [
        ("ID", "NAME", "OWNER", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED", "LIMITS")
    ]
    rows += [_row(credential) for credential in await store.all()]
    table(rows)
    return 0


def _row(credential: Credential) -> tuple[str, ...]:
    return (
        credential.id,
        credential.name,
        credential.owner or "-",
        ",".join(credential.scopes),
        credential.state(time.time()),
        _date(credential.created),
        _date(credential.expires),
        _date(credential.last_used),
        told(credential) + (f" webhook={credential.webhook_url}" if credential.webhook_url else ""),
    )


def _date(value: int | None) -> str:
    return "-" if value is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(value))
