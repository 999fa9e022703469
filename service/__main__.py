"""`python -m service <command>`: the only way to start the service, and its tools.

A wrong setting is one line per problem on stderr and exit code 2; anything else that keeps
the service from starting is one sentence and exit code 1. Commands print to stdout, logs go
to stderr. What a command does is in the module that it calls.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final

from service.cli.check import check
from service.cli.listening import INTERRUPTED, Refused
from service.cli.local import surroundings
from service.cli.run import run
from service.cli.serve import serve
from service.config.environment import METRICS_DIR, unset_environment
from service.config.loading import load_settings
from service.config.settings import Settings, SettingsError
from service.telemetry import logs

APP: Final = "service.app:create_app"
# At Python's own threshold of 700 objects the collector took a tenth of a boot, and found nothing. A worker
# has a policy of its own once it serves (serving/gc_policy.py).
_COLLECT_AT: Final = 100_000


def main(arguments: list[str] | None = None) -> int:
    gc.set_threshold(_COLLECT_AT, 10, 10)
    parser = _parser()
    wishes, rest = parser.parse_known_args(arguments)
    if rest and wishes.command not in ("keys", "principals", "demo"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if wishes.command == "demo":
        sys.argv = ["python -m service demo", *rest]
        import_module("service.demo.__main__").main()
        return 0
    try:
        settings = load_settings()
        logs.configure(settings)
        return _COMMANDS[wishes.command](settings, wishes, rest)
    except SettingsError as error:
        # One sentence per setting, and one line per sentence.
        for line in re.split(r"(?<=\.) (?=(?:CHAT|GROQ)_[A-Z_]+: )", str(error)):
            print(f"chat: {line}", file=sys.stderr)
        return 2
    except Refused as refusal:
        print(f"chat: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED  # before anything was served; the server has a way of its own to leave


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="The chat service.")
    parser.add_argument("--app", default=APP, help=argparse.SUPPRESS)  # tests serve stand-ins
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="serve on this machine, with all that is needed")
    commands.add_parser("serve", help="serve with Gunicorn, as in production")
    commands.add_parser("keys", help="create, change, list, rotate and revoke API keys", add_help=False)
    commands.add_parser("principals", help="limits of single persons and groups", add_help=False)
    erase = commands.add_parser("erase", help="remove all sessions of a principal")
    erase.add_argument("principal", help="as GET /v1/usage/principals lists it: key.k7f3q9, jwt.alice")
    commands.add_parser("demo", help="serve the demo model alone", add_help=False)
    commands.add_parser("openapi", help="print the OpenAPI document")
    commands.add_parser("check", help="check the settings, the store and the models")
    return parser


def _tool(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    unset_environment(METRICS_DIR)  # a tool takes no place from a worker
    tool = import_module(f"service.cli.{wishes.command}")
    with surroundings(settings, demo=False) as complete:
        return int(tool.main([wishes.principal] if "principal" in wishes else rest, complete))


def _openapi(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    import orjson

    unset_environment(METRICS_DIR)
    module, _, factory = wishes.app.partition(":")
    document = getattr(import_module(module), factory)(settings).openapi()
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return 0


_COMMANDS: Final[dict[str, Callable[[Settings, argparse.Namespace, list[str]], int]]] = {
    "run": run,
    "serve": serve,
    "keys": _tool,
    "principals": _tool,
    "erase": _tool,
    "openapi": _openapi,
    "check": check,
}


if __name__ == "__main__":
    sys.exit(main())
