"""Routes that FastAPI describes and Starlette calls.

An endpoint that takes the request and returns a response needs nothing of what FastAPI does around a call:
exit stacks, a search for parameters, their validation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import request_response


def call_directly(routes: Iterable[APIRoute]) -> None:
    """Those whose endpoint returns a response; its arguments are the request and the words of the path."""
    for route in routes:
        if get_type_hints(route.endpoint).get("return") is Response:
            route.app = request_response(partial(_call, route.endpoint))


async def _call(endpoint: Callable[..., Awaitable[Response]], request: Request) -> Response:
    return await endpoint(request, **request.path_params)
