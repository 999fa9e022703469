"""The process's environment: variables for child processes, and those that other programs have set.

Settings are read by settings.py. Nothing else in the package touches os.environ.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

#: the directory of the counts of a replica's processes; the master makes it, prometheus_client reads it
METRICS_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"


def has_proxy(url: str) -> bool:
    """Does the environment (HTTPS_PROXY, ALL_PROXY, NO_PROXY...) name a proxy for this URL?"""
    parts = urlsplit(url)
    proxies = getproxies()
    return (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(parts.hostname or "")


def set_environment(name: str, value: str) -> None:
    """Hand a value to child processes (Gunicorn's workers read the same settings)."""
    os.environ[name] = value


def unset_environment(name: str) -> None:
    os.environ.pop(name, None)


def environment() -> dict[str, str]:
    return dict(os.environ)
