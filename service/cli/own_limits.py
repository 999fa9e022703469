"""Options for a caller's own limits, and how a list tells them. For keys.py and principals.py."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable
from typing import Any, Final

from service.config.validators import check_limit
from service.money import decimal, nanos
from service.store.credentials import OwnLimits

#: given instead of a value: the setting's limit holds again
DEFAULT: Final = "default"


def _limit(value: str) -> str:
    try:
        return check_limit(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise argparse.ArgumentTypeError(f"{value!r} is not a number from 0")
    return int(value)


def _money(value: str) -> int:
    try:
        return nanos(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# option -> field, name in a list, placeholder, help, how its value is read
_OPTIONS: Final[dict[str, tuple[str, str, str, str, Callable[[str], int | str]]]] = {
    "limit-sends": ("limit_sends", "sends", "100/minute", "instead of CHAT_LIMIT_SENDS", _limit),
    "limit-reads": ("limit_reads", "reads", "LIMIT", "instead of CHAT_LIMIT_READS", _limit),
    **{
        f"budget-{period}": (
            f"budget_tokens_per_{period}",
            f"tokens/{period}",
            "TOKENS",
            f"tokens per {period}, 0 for no bound",
            _number,
        )
        for period in ("minute", "day", "month")
    },
    **{
        f"money-{period}": (
            f"budget_money_per_{period}",
            f"money/{period}",
            "AMOUNT",
            f"money per {period}, 0 for no bound",
            _money,
        )
        for period in ("day", "month")
    },
    "max-turns": ("max_running_turns", "turns", "N", "answers at the same time, 0: no bound", _number),
}


def add_options(parser: argparse.ArgumentParser, *, default: bool = False) -> None:
    """`default`: DEFAULT is allowed as a value."""
    for option, (field, _, shape, help, read) in _OPTIONS.items():
        parser.add_argument(
            f"--{option}", dest=field, type=_or_default(read) if default else read, metavar=shape, help=help
        )


def _or_default(read: Callable[[str], int | str]) -> Callable[[str], int | str]:
    return lambda value: value if value == DEFAULT else read(value)


def given(wishes: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, by fields of OwnLimits."""
    named = ((field, getattr(wishes, field)) for field, *_ in _OPTIONS.values())
    return {field: value for field, value in named if value is not None}


def told(own: OwnLimits) -> str:
    found = own.own()
    shown = []
    for field, name, _, _, read in _OPTIONS.values():
        if field in found:
            value = found[field]
            shown.append(f"{name}={(decimal(value) if read is _money else value) if value else 'none'}")
    return " ".join(shown) or "-"


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns, the first of them the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def operator() -> str:
    """Who runs this command, for the audit line."""
    try:
        return f"user.{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return "user.unnamed"
