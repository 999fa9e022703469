"""Routes that FastAPI describes and Starlette calls.

An endpoint that takes the request and returns a response needs nothing of what FastAPI does around a call:
exit stacks, a search for parameters, their validation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from inspect import iscoroutinefunction
from typing import get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import request_response


def call_directly(routes: Iterable[APIRoute]) -> None:
    """Those whose endpoint is a coroutine that returns a response, of the request and the words of the path.

    Others are left to FastAPI, which calls plain functions in a thread.
    """
    for route in routes:
        returned = get_type_hints(route.endpoint).get("return")
        if returned is Response and iscoroutinefunction(route.endpoint):
            route.app = request_response(partial(_call, route.endpoint))


async def _call(endpoint: Callable[..., Awaitable[Response]], request: Request) -> Response:
    return await endpoint(request, **request.path_params)
