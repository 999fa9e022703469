"""Routes that FastAPI describes and Starlette calls.

An endpoint takes the request, and what the path names, and returns a response. It needs nothing of what
FastAPI does around a call: exit stacks, a search for parameters, their validation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from inspect import iscoroutinefunction

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import request_response


def call_directly(routes: Iterable[APIRoute]) -> None:
    """A plain function, which takes the request alone, is called in a thread.

    What answers GET answers HEAD, as RFC 9110 (9.3.2) and Starlette's own routes have it.
    """
    for route in routes:
        if route.methods and "GET" in route.methods:
            route.methods.add("HEAD")
        called = partial(_call, route.endpoint) if iscoroutinefunction(route.endpoint) else route.endpoint
        route.app = request_response(called)


async def _call(endpoint: Callable[..., Awaitable[Response]], request: Request) -> Response:
    return await endpoint(request, **request.path_params)
