"""The double as an ASGI application: routes, keys, and one chat request from body to end.

Invariant: every chat request gets exactly one record, closed exactly once, with how it ended.
Admin requests are never recorded, limited or failed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from service.demo.models import CATALOGUE, Model
from service.demo.request import ChatRequest
from service.demo.wire import dumps
from tests.double import refusals
from tests.double.admin import Admin
from tests.double.answer import Answer, Struck
from tests.double.calls import Call, Calls
from tests.double.faults import CONNECTION, Fault, FaultQueue
from tests.double.limits import Limits
from tests.double.line import ClientGone, Line, Receive, Scope, Send
from tests.double.refusals import JSON, Refusal
from tests.double.request import read_body, read_request
from tests.double.script import directive_fault, directives, write_script
from tests.double.settings import Settings

_MAX_BODY = 20 * 1024 * 1024


class Double:
    """Holds all state of one double; build it with `create_double`."""

    def __init__(self, settings: Settings) -> None:
        self.calls = Calls()
        self.faults = FaultQueue()
        self.limits = Limits()
        self.configure(settings)
        self._admin = Admin(self)

    def configure(self, settings: Settings) -> None:
        self.settings = settings
        self.limits.configure(settings.limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the double speaks HTTP, not {scope['type']}")
        line = Line(scope, receive, send)
        try:
            body = await line.body()
            if scope["path"].startswith("/_double/"):
                await self._admin.serve(scope, line, body)
            elif scope["method"] == "POST" and scope["path"] == f"{self.settings.root}/chat/completions":
                await self._chat(scope, line, body)
            else:
                await self._list(scope, line)
        except ClientGone:
            pass
        finally:
            line.close()

    async def _list(self, scope: Scope, line: Line) -> None:
        path: str = scope["path"]
        models = f"{self.settings.root}/models"
        request_id = f"req_{uuid.uuid4().hex[:26]}"
        try:
            if scope["method"] != "GET" or not (path == models or path.startswith(f"{models}/")):
                raise refusals.unknown_url(scope["method"], path)
            self._check_key(_headers(scope))
            name = path[len(models) + 1 :]
            if name and name not in self.settings.models:
                raise refusals.model_not_found(name)
            body = (
                self.settings.models[name].describe()
                if name
                else {"object": "list", "data": [model.describe() for model in self.settings.models.values()]}
            )
            await line.respond(200, [("content-type", JSON), *_edge(request_id)], dumps(body))
        except Refusal as refusal:
            await _refuse(line, refusal, request_id)

    def _check_key(self, headers: Mapping[str, str]) -> None:
        settings = self.settings
        if not settings.require_key:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key or (settings.api_keys and key not in settings.api_keys):
            raise refusals.invalid_api_key()

    async def _chat(self, scope: Scope, line: Line, body: bytes) -> None:
        headers = _headers(scope)
        request_id = f"req_{uuid.uuid4().hex[:26]}"
        call = self.calls.open(body, headers, "authorization" in headers, request_id)
        try:
            self._check_key(headers)
            key = headers.get("authorization", "").partition(" ")[2]
            call.organization = self.settings.organizations.get(key, "")
            await self._answer(line, call)
            self.calls.close(call, "finished")
        except Struck:
            self.calls.close(call, "faulted")
        except Refusal as refusal:
            call.status = refusal.status
            try:
                await _refuse(line, refusal, request_id)
            finally:
                self.calls.close(call, "faulted" if call.fault else "refused")
        finally:
            # The client left, or the server is being shut down.
            if not call.end:
                self.calls.close(call, "client_closed")

    async def _answer(self, line: Line, call: Call) -> None:
        if len(call.body) > _MAX_BODY:
            raise refusals.request_too_large()
        request = read_request(read_body(call.body), self.settings)
        call.model = request.model.id
        call.prompt_tokens = request.prompt_tokens
        call.attempt = self.calls.attempt(request.last_user)
        wishes = directives(request.last_user)
        fault = self.faults.take(call.model, request.last_user) or directive_fault(wishes, call.attempt)
        if fault is not None:
            call.fault = fault.kind
            await self._fail_first(line, fault, request)
        script = write_script(request, wishes, self.settings, call.attempt, fault)
        reservation = self.limits.admit(
            call.model, request.prompt_tokens, request.max_completion, call.organization
        )
        try:
            answer = Answer(line, request, script, call, reservation)
            await (answer.stream if request.stream else answer.whole)(_edge(call.request_id))
        finally:
            reservation.settle(request.prompt_tokens - script.cached, call.tokens)

    async def _fail_first(self, line: Line, fault: Fault, request: ChatRequest) -> None:
        """The faults that come instead of an answer."""
        if fault.kind in CONNECTION:
            if fault.kind == "hang":
                await line.until(None if fault.seconds is None else line.now() + fault.seconds)
            await line.cut(reset=fault.kind == "drop_rst")
            raise Struck
        refusal = fault.refusal(request.model.id)
        if refusal is not None:
            await line.until(line.now() + (fault.seconds or 0.0))
            raise refusal


def create_double(
    *,
    rate: float = 50.0,
    first_delay: float = 0.0,
    require_key: bool = False,
    api_keys: Iterable[str] = (),
    continues: Iterable[str] = (),
    models: Iterable[Model | str] = CATALOGUE,
    limits: Mapping[str, Mapping[str, int]] | None = None,
) -> Double:
    """A double of Groq's API with its own state; see `Settings` for the arguments."""
    wishes = {
        "rate": rate,
        "first_delay": first_delay,
        "require_key": require_key,
        "api_keys": list(api_keys),
        "continues": list(continues),
        "models": list(models),
        "limits": limits or {},
    }
    return Double(Settings().changed(wishes))


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _edge(request_id: str) -> list[tuple[str, str]]:
    """The headers of Groq's edge on every answer."""
    return [
        ("x-request-id", request_id),
        ("x-groq-region", "double"),
        ("cf-ray", f"{uuid.uuid4().hex[:16]}-DBL"),
        ("server", "cloudflare"),
    ]


async def _refuse(line: Line, refusal: Refusal, request_id: str) -> None:
    head = [("content-type", refusal.content_type), *_edge(request_id), *refusal.headers.items()]
    await line.respond(refusal.status, head, refusal.body)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
