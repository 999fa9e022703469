"""`python -m service run`: serve on this machine, in one process, with all that is needed."""

from __future__ import annotations

import argparse

from service.cli.check import check_models, check_store
from service.cli.file_limit import raise_file_limit
from service.cli.listening import listen, listen_for_metrics
from service.cli.local import surroundings
from service.cli.serve import serve
from service.config.environment import METRICS_DIR, unset_environment
from service.config.settings import Settings
from service.telemetry import logs

log = logs.get_logger("service")


def run(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    if settings.workers > 1:
        return serve(settings, wishes, rest)
    unset_environment(METRICS_DIR)  # one process adds up nothing, and nobody makes the folder for it
    logs.warn_of(settings)
    raise_file_limit(settings)
    check_models(settings)
    sockets = listen(settings, settings.port)
    metrics = listen_for_metrics(settings)
    with surroundings(settings) as complete:
        check_store(complete)

        from uvicorn.config import Config

        from service.serving.http_server import ChatServer, http_options, readable_url
        from service.telemetry.metrics_server import serve_in_threads

        serve_in_threads(metrics, settings)

        def announce() -> None:
            log.info("service.ready", url=readable_url(sockets[0].getsockname()), workers=1)

        config = Config(wishes.app, factory=True, **http_options())
        ChatServer(config, complete, on_ready=announce).run(sockets)
    return 0
