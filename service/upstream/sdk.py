"""The groq SDK, loaded without aiohttp, and the client of its kind for services behind a proxy.

Where aiohttp is installed the SDK loads it: 9 MiB and a tenth of a worker's start, of use behind
a proxy only.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

import httpx

_AIOHTTP: Final = "httpx_aiohttp"

_loaded = sys.modules.get(_AIOHTTP)
sys.modules[_AIOHTTP] = None  # type: ignore[assignment]  # an import of it fails, as where it is not installed
try:
    from groq import AsyncGroq as AsyncGroq
finally:
    del sys.modules[_AIOHTTP]
    if _loaded is not None:
        sys.modules[_AIOHTTP] = _loaded


def behind_proxy(**options: Any) -> httpx.AsyncClient:
    """A client that uses the proxy which the environment names."""
    made: httpx.AsyncClient = import_module(_AIOHTTP).HttpxAiohttpClient(**options)
    return made
