"""`python -m service <command>`: the only way to start the service, and its tools.

A wrong setting is one line per problem on stderr and exit code 2; anything else that keeps
the service from starting is one sentence and exit code 1. Commands print to stdout, logs go
to stderr. What a command does is in the module that it calls.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Final

from service.cli.local import LocalError, surroundings
from service.config.environment import METRICS_DIR, unset_environment
from service.config.redis_url import without_credentials
from service.config.settings import Settings, SettingsError, load_settings
from service.telemetry import logs

log = logs.get_logger("service")

APP: Final = "service.app:create_app"

_INTERRUPTED: Final = 130  # as a shell says it of Ctrl-C
_STORE_SECONDS: Final = 5.0  # Redis often starts beside us (compose, a node that boots)
_PING_SECONDS: Final = 0.25  # between two tries: nothing tells us that it has started


class Refused(Exception):
    """The service cannot start; the message is one sentence."""


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    wishes, rest = parser.parse_known_args(arguments)
    if rest and wishes.command not in ("keys", "double"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if wishes.command == "double":
        sys.argv = ["python -m service double", *rest]
        import_module("service.double.__main__").main()
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
    except (Refused, LocalError) as refusal:
        print(f"chat: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED  # before anything was served; the server has a way of its own to leave


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="The chat service.")
    parser.add_argument("--app", default=APP, help=argparse.SUPPRESS)  # tests serve stand-ins
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="serve on this machine, with all that is needed")
    commands.add_parser("serve", help="serve with Gunicorn, as in production")
    commands.add_parser("keys", help="create, list, rotate and revoke API keys", add_help=False)
    commands.add_parser("double", help="serve the demo model alone", add_help=False)
    commands.add_parser("openapi", help="print the OpenAPI document")
    commands.add_parser("check", help="check the settings, the store and the models")
    return parser


# -- commands


def _run(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    if settings.workers > 1:
        return _serve(settings, wishes, rest)
    unset_environment(METRICS_DIR)  # one process adds up nothing, and nobody makes the folder for it
    logs.warn_of(settings)
    _check_models(settings)
    sockets = _bind(settings, settings.port)
    metrics = _bind_metrics(settings)
    with surroundings(settings) as complete:
        _check_store(complete)

        from uvicorn.config import Config

        from service.serving.http_server import ChatServer, http_options, readable_url
        from service.telemetry.metrics_server import serve_in_threads

        serve_in_threads(metrics, settings)

        def announce() -> None:
            log.info("service.ready", url=readable_url(sockets[0].getsockname()), workers=1)

        config = Config(wishes.app, factory=True, **http_options())
        ChatServer(config, complete, on_ready=announce).run(sockets)
    return 0


def _serve(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    _check_models(settings)
    for bound in _bind(settings, settings.port):
        bound.close()
    metrics = _bind_metrics(settings)
    with surroundings(settings) as complete:
        if complete.redis_url is None:
            raise Refused(
                "Several workers need a Redis between them, and this machine has none:"
                " set CHAT_REDIS_URL, or use `run` with CHAT_WORKERS=1."
            )
        _check_store(complete)

        from service.serving.master import ChatApplication
        from service.telemetry.metrics_server import ExporterProcess

        exporter = ExporterProcess(metrics, settings) if metrics else None
        ChatApplication(f"{wishes.app}()", exporter).run()
    return 0


def _keys(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    unset_environment(METRICS_DIR)  # a tool takes no place from a worker
    keys = import_module("service.cli.keys")
    with surroundings(settings, double=False) as complete:
        return int(keys.main(rest, complete))


def _openapi(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    import orjson

    unset_environment(METRICS_DIR)
    module, _, factory = wishes.app.partition(":")
    document = getattr(import_module(module), factory)(settings).openapi()
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return 0


def _check_command(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    logs.warn_of(settings)
    _check_models(settings)
    with surroundings(settings, double=False) as complete:
        _check_store(complete)
        print(f"The settings are right, the models are known, and the store at {_place(complete)} answers.")
    if settings.groq_api_key or settings.groq_base_url:
        print(_provider(settings))
    return 0


_COMMANDS: Final[dict[str, Callable[[Settings, argparse.Namespace, list[str]], int]]] = {
    "run": _run,
    "serve": _serve,
    "keys": _keys,
    "openapi": _openapi,
    "check": _check_command,
}


# -- what has to be right before anything is served


def _bind_metrics(settings: Settings) -> list[socket.socket]:
    if settings.metrics_port is None:
        return []
    return _bind(settings, settings.metrics_port, "CHAT_METRICS_PORT")


def _bind(settings: Settings, port: int, name: str = "CHAT_PORT") -> list[socket.socket]:
    """Listening sockets of an address, as early as possible: a port in use is found at once."""
    try:
        addresses = socket.getaddrinfo(
            settings.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise Refused(f"CHAT_HOST {settings.host} is no address ({error.strerror}).") from error
    # Without an IPv4 address of its own, `::` takes IPv4 too, as Gunicorn's listener does.
    apart = any(address[0] == socket.AF_INET for address in addresses)
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(addresses):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, apart)
        try:
            listener.bind(address)
            # Two processes may have bound the same address, one may listen. Enough for scrapers, which
            # are few; a server of the API listens again, with a backlog of its own.
            listener.listen(16)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    f"Port {port} of {settings.host} is in use: stop what uses it, or set {name}."
                ) from error
            if error.errno == errno.EADDRNOTAVAIL and bound:
                continue  # "localhost" names ::1 also where IPv6 is off
            raise Refused(
                f"{settings.host}:{port} cannot be listened on ({error.strerror}): set CHAT_HOST and {name}."
            ) from error
        bound.append(listener)
    return bound


def _check_models(settings: Settings) -> None:
    """Raise SettingsError unless the catalogue and the default model are right."""

    def verdict() -> str:
        from service.upstream.models import load_catalogue

        try:
            load_catalogue(settings.models_file, settings.model, settings.on_takeover)
        except SettingsError as error:
            return str(error)
        return ""

    if problem := _in_fork(verdict):
        raise SettingsError(problem)


def _provider(settings: Settings) -> str:
    """What the provider says of its models. Raises Refused where something is wrong that stays so."""

    def verdict() -> str:
        from service.upstream.address import ask_models
        from service.upstream.models import load_catalogue

        catalogue = load_catalogue(settings.models_file, settings.model, settings.on_takeover)
        found = asyncio.run(ask_models(settings, [model.id for model in catalogue], catalogue.default.id))
        return f"{'wrong' if found.wrong else 'well'} {found.sentence}"

    state, _, sentence = _in_fork(verdict).partition(" ")
    if state != "well":
        raise Refused(sentence)
    return sentence


def _check_store(settings: Settings) -> None:
    """Raise Refused unless the store answers within some seconds."""

    def verdict() -> str:
        return asyncio.run(_store_problem(settings)) or ""

    if problem := _in_fork(verdict):
        raise Refused(problem)


def _place(settings: Settings) -> str:
    """Where the store is, without the password."""
    if settings.redis_url is None:
        return "memory://"
    return without_credentials(settings.redis_url.get_secret_value())


def _in_fork(verdict: Callable[[], str]) -> str:
    """What a function returns, found out in a fork.

    Gunicorn's master must not import what a reload is to renew, and prometheus_client decides
    at its import whether there are several workers.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = None
        try:
            unset_environment(METRICS_DIR)  # it counts nothing, and the master has yet to make the folder
            said = verdict()
        except KeyboardInterrupt:
            os._exit(_INTERRUPTED)
        finally:
            if said is None:
                traceback.print_exc()
                said = "the check itself failed"
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == _INTERRUPTED:
        raise KeyboardInterrupt
    return said


async def _store_problem(settings: Settings) -> str | None:
    """What is wrong with the store, as a sentence; what passes by itself is only told."""
    from service.errors import StoreRefusesWrites, StoreUnavailable
    from service.store.connection.client import Client

    deadline = time.monotonic() + _STORE_SECONDS
    while True:
        client = Client(settings)
        try:
            await client.check()
            policy = await client.evicting_policy()
        except StoreUnavailable as error:
            if isinstance(error, StoreRefusesWrites) and error.reason in ("full", "disk", "no_replicas"):
                log.error("store.refuses_writes", reason=error.reason, action="reads go on, sends are 503")
                return None
            cause = error.__cause__ or error
            problem = str(cause).partition(" : ")[0].rstrip(".") or type(cause).__name__
        else:
            return policy and (
                f"The store at {_place(settings)} may drop what it keeps: its maxmemory-policy is {policy}."
                " Set it to noeviction, in its redis.conf or by CONFIG SET maxmemory-policy noeviction."
            )
        finally:
            await client.close()
        if time.monotonic() > deadline:
            return (
                f"The store at {_place(settings)} cannot be reached ({problem}):"
                " is it running, is CHAT_REDIS_URL right, and may its user write and publish there?"
            )
        await asyncio.sleep(_PING_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
