"""`python -m service serve`: serve with Gunicorn, as in production."""

from __future__ import annotations

import argparse

from service.cli.check import check_models, check_store
from service.cli.file_limit import raise_file_limit
from service.cli.listening import Refused, listen, listen_for_metrics
from service.cli.local import surroundings
from service.config.settings import Settings


def serve(settings: Settings, wishes: argparse.Namespace, rest: list[str]) -> int:
    raise_file_limit(settings)
    check_models(settings)
    for bound in listen(settings, settings.port):
        bound.close()
    metrics = listen_for_metrics(settings)
    with surroundings(settings) as complete:
        if complete.redis_url is None:
            raise Refused(
                "Several workers need a Redis between them, and this machine has none:"
                " set CHAT_REDIS_URL, or use `run` with CHAT_WORKERS=1."
            )
        check_store(complete)

        from service.serving.master import ChatApplication
        from service.telemetry.metrics_server import ExporterProcess

        exporter = ExporterProcess(metrics, settings) if metrics else None
        ChatApplication(f"{wishes.app}()", exporter).run()
    return 0
