"""Checks of the models and the store, before anything is served.

`python -m service check` does this and no more. Each check runs in a fork (`_in_fork` says why).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import traceback
from collections.abc import Callable
from typing import Final

from service.cli.listening import INTERRUPTED, Refused
from service.cli.local import surroundings
from service.config.environment import METRICS_DIR, unset_environment
from service.config.provider_keys import KeySource, ProviderKey
from service.config.redis_url import without_credentials
from service.config.settings import Settings, SettingsError
from service.telemetry import logs

log = logs.get_logger("service")

_STORE_SECONDS: Final = 5.0  # Redis often starts beside us (compose, a node that boots)
_PING_SECONDS: Final = 0.25  # between two tries: nothing tells us that it has started


def check(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    logs.warn_of(settings)
    check_models(settings)
    with surroundings(settings, demo=False) as complete:
        check_store(complete)
        print(f"The settings are right, the models are known, and the store at {_place(complete)} answers.")
    if settings.has_provider_key or settings.groq_base_url:
        keys = KeySource(settings).read() or (ProviderKey(),)
        verdicts = [(key.name, *_provider(settings, key)) for key in keys]
        if len(keys) == 1 and not verdicts[0][2]:
            raise Refused(verdicts[0][1])
        for name, sentence, _ in verdicts:
            print(sentence if len(keys) == 1 else f"{name}: {sentence}")
        if wrong := [name for name, _, well in verdicts if not well]:
            raise Refused(f"Of the provider's keys these do not work: {', '.join(wrong)}.")
    return 0


def check_models(settings: Settings) -> None:
    """Raise SettingsError unless the catalogue and the default model are right."""

    def verdict() -> str:
        from service.upstream.models import load_catalogue

        try:
            load_catalogue(settings.models_file, settings.model, settings.on_takeover, settings.title_model)
        except SettingsError as error:
            return str(error)
        return ""

    if problem := _in_fork(verdict):
        raise SettingsError(problem)


def _provider(settings: Settings, key: ProviderKey) -> tuple[str, bool]:
    """What the provider says of its models to one key; False where something is wrong that stays so."""

    def verdict() -> str:
        from service.upstream.address import ask_models
        from service.upstream.models import load_catalogue

        catalogue = load_catalogue(settings.models_file, settings.model, settings.on_takeover)
        found = asyncio.run(
            ask_models(settings, key, [model.id for model in catalogue], catalogue.default.id)
        )
        return f"{'wrong' if found.wrong else 'well'} {found.sentence}"

    state, _, sentence = _in_fork(verdict).partition(" ")
    return sentence, state == "well"


def check_store(settings: Settings) -> None:
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
            os._exit(INTERRUPTED)
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
    if os.waitstatus_to_exitcode(status) == INTERRUPTED:
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
