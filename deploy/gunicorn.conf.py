"""Gunicorn's configuration, all of it from the service's settings (docs/configuration.md).

`python -m service serve` runs it under the master of service/serving/master.py; plain
`gunicorn -c deploy/gunicorn.conf.py` works too, with the stock master.
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from service.config.loading import load_settings
from service.serving import http_server, master
from service.telemetry import logs

settings = load_settings()
logs.configure(settings)

wsgi_app = "service.app:create_app()"
worker_class = "service.serving.worker.ChatWorker"
proc_name = "chat"
bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
workers = settings.workers

# One listening socket for all workers: docs/decisions/0002-listening-sockets.md.
reuse_port = False
backlog = 2048
keepalive = http_server.KEEP_ALIVE_SECONDS

# A worker beats each second, draining too; 30 s without a beat is a blocked event loop.
timeout = 30
graceful_timeout = math.ceil(http_server.grace_seconds(settings))
max_requests = settings.max_requests
max_requests_jitter = settings.max_requests // 10  # workers that started together do not leave together

# A reload must be able to bring new code, and nothing of the app belongs into the master.
preload_app = False
# The control socket would be shared by all instances under one $HOME, and needs a writable one.
control_socket_disable = True
# A heartbeat is a file's time: on a busy disk it would stall the event loop.
worker_tmp_dir = master.memory_dir(settings.workers)

logconfig_dict = logs.stdlib_config(settings)
loglevel = settings.log_level


def on_starting(server):
    master.starting(settings)


def post_fork(server, worker):
    master.forked(worker, server)


def child_exit(server, worker):
    master.child_exited(settings, server, worker)


def on_exit(server):
    master.exiting()
