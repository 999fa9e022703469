"""The OpenAPI document: every route, header, error and body, put together from what the routes say.

Errors come from the one table of codes, in the envelope of the path; requests from the models
that check them. Nothing is served from here but the document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from service.api.examples import BODIES
from service.api.operation import GUARDED, READS_BODY, TAGS, Answer, Operation, operation_of
from service.api.schema_words import NUMBER, TEXT, Schema, ref
from service.api.schemas import SCHEMAS
from service.dialects.errors import envelope
from service.errors import CODES, ServiceError
from service.store.ledger import USAGE_DAYS

_REFS: Final = "#/components/schemas/{model}"
_DESCRIPTION: Final = """\
Chat answers from a durable log: every answer can be read in five dialects, stopped, repeated and
resumed from any event, at any replica.

All answers carry `X-Request-Id`, which is taken over from the request. Where limits are in force,
answers carry `RateLimit-*` and `X-RateLimit-*`. Errors have one form per family of paths:
`application/problem+json`, OpenAI's error object below `/v1/chat`, `/v1/models`, `/v1/responses`,
`/v1/conversations` and `/openai`, and one plain sentence below `/api/chat`. A bad body is always 400,
never 422."""

_PATTERN: Final = "^[A-Za-z0-9_.:-]{1,128}$"


def _parameter(where: str, name: str, description: str, **schema: Any) -> Schema:
    """A text, unless the schema says otherwise."""
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": {**TEXT, **schema},
    }


_path, _query, _header = (partial(_parameter, where) for where in ("path", "query", "header"))
_FROM_0: Final = {**NUMBER, "minimum": 0}
_UP_TO_100: Final = {**NUMBER, "minimum": 1, "maximum": 100}
_UP_TO_200: Final = {**_UP_TO_100, "maximum": 200}
_UP_TO_1000: Final = {**_UP_TO_100, "maximum": 1000}
_TEXTS: Final = {"type": "array", "items": TEXT}
_KEY: Final = {"minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"}
_CHUNK: Final = r"^t_[a-z0-9]+\.[0-9]+\.[0-9]+$"

PARAMETERS: Final[dict[str, Schema]] = {
    "session_id": _path("session_id", "chosen by the caller or made by us", pattern=_PATTERN),
    "turn_id": _path("turn_id", "from `X-Turn-Id` or `Location`", pattern=_PATTERN),
    "model_id": _path("model_id", "an id, or the alias of a model that died"),
    "response_id": _path("response_id", "from a response"),
    "conversation_id": _path("conversation_id", "a session of the caller's", pattern=_PATTERN),
    "image": _path("image", "`ref` of a message's part: the SHA-256 of the image"),
    "item_id": _path("item_id", "from a list of items"),
    "principal_id": _path("principal_id", "as the list says it: `jwt.alice`, `group.staff`"),
    "key_id": _path("key_id", "the id of the key, not the key"),
    "limit": _query("limit", "items, at most 200 (50)", **_UP_TO_200),
    "limit_messages": _query("limit", "items, at most 1000 (50)", **_UP_TO_1000),
    "limit_items": _query("limit", "items, at most 100 (20)", **_UP_TO_100),
    "cursor": _query("cursor", "`next` of the page before"),
    "order": _query("order", "asc (oldest first) or desc", enum=["asc", "desc"]),
    "order_items": _query("order", "desc (newest first) or asc", enum=["desc", "asc"]),
    "versions": _query("versions", "1: with earlier versions", enum=["0", "1"]),
    "brief": _query("brief", "1: versions come without their messages", enum=["0", "1"]),
    "include_items": _query("include", "accepted; there is nothing more to include", **_TEXTS),
    "after_item": _query("after", "the id of the last item of the page before"),
    "stream": _query("stream", "true: as events", enum=["true", "false"]),
    "starting_after": _query(
        "starting_after", "the `sequence_number` of the last event that was seen", **_FROM_0
    ),
    "after": _query("after", "like `Last-Event-ID`, which wins", **_FROM_0),
    "exclude": _query("exclude", "checks to leave out: store, drain, upstream", **_TEXTS),
    "days": _query("days", "days back (30)", **{**_UP_TO_100, "maximum": USAGE_DAYS}),
    "principal": _query("principal", "somebody else's usage (scope admin)"),
    "subject": _query("principal", "whose, instead of the caller's (scope admin)"),
    "Idempotency-Key": _header(
        "Idempotency-Key", "a repeat with the same key and body is the same turn", **_KEY
    ),
    "Repeat-Key": _header(
        "Idempotency-Key", "a repeat with the same key and body has the same result", **_KEY
    ),
    "X-On-Busy": _header(
        "X-On-Busy",
        "when the session is answering already; a field of the body wins",
        enum=["reject", "interrupt", "queue"],
    ),
    "Last-Event-ID": _header("Last-Event-ID", "the id of the last event that was seen", **_FROM_0),
    "Last-Chunk-ID": _header(
        "Last-Event-ID", "the id of the last chunk that was seen, `<turn>.<event>.<k>`", pattern=_CHUNK
    ),
    "Prefer": _header("Prefer", "respond-async: the turn instead of its events"),
    "X-Session-Id": _header(
        "X-Session-Id", "the session that keeps the exchange; one in the body wins", pattern=_PATTERN
    ),
    "X-Accept-Chunks": _header("X-Accept-Chunks", "reset-step: this version of the AI SDK knows the chunk"),
    "If-Match": _header("If-Match", "`*`: only where the session exists, else 404", enum=["*"]),
    "If-None-Match": _header("If-None-Match", "the ETag that the caller has"),
}

# Required, though their models say optional: so that a missing or null one is answered with query_empty.
_NEEDED: Final = {"ChatBody": "user_query", "ChatWithHistoryBody": "user_query"}

#: headers of responses
HEADERS: Final = {
    "X-Request-Id": "in the answer and in every log line of the request",
    "X-Session-Id": "the session that the turn belongs to",
    "X-Turn-Id": "the turn",
    "Location": "of the turn's events, or of what was made",
    "Retry-After": "seconds after which a repeat makes sense",
    "x-should-retry": "false: a repeat cannot succeed (OpenAI's and Groq's SDKs obey it)",
    "WWW-Authenticate": "how to authenticate",
    "ETag": "names the content",
    "Cache-Control": "how long it may be kept",
    "Content-Disposition": "a file name",
    "x-vercel-ai-ui-message-stream": "v1",
    "RateLimit-Limit": "requests per window",
    "RateLimit-Remaining": "requests left",
    "RateLimit-Reset": "seconds until there are more",
    "X-RateLimit-Limit": "the same",
    "X-RateLimit-Remaining": "the same",
    "X-RateLimit-Reset": "when there are more, in seconds since 1970",
}
_LIMITS: Final = tuple(name for name in HEADERS if "RateLimit" in name)
_RETRIED: Final = frozenset((408, 409, 429, 500, 502, 503, 504))
_SECURITY: Final[dict[str, Schema]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key or a JWT"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "for the events of one turn, from `POST .../ticket`",
    },
}


def install(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """`app.openapi()` is this document; routes/docs.py shows it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, routes)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _document(app: FastAPI, routes: Sequence[APIRoute]) -> dict[str, Any]:
    """Raises KeyError for a route that says nothing."""
    shown = [route for route in routes if route.include_in_schema]
    order = list(TAGS)
    paths: dict[str, Any] = {}
    for route in sorted(shown, key=lambda route: order.index(str(route.tags[0]))):
        for method in map(str.lower, (route.methods or set()) - {"HEAD"}):  # which every GET has
            paths.setdefault(route.path_format, {})[method] = _operation(route, operation_of(route.endpoint))
    return {
        "openapi": app.openapi_version,
        "info": {"title": app.title, "description": _DESCRIPTION, "version": app.version},
        "paths": paths,
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "components": {
            "schemas": {**_requests(shown), **SCHEMAS},
            "parameters": PARAMETERS,
            "headers": {name: {"description": about, "schema": TEXT} for name, about in HEADERS.items()},
            "securitySchemes": _SECURITY,
        },
    }


def _requests(routes: Sequence[APIRoute]) -> dict[str, Schema]:
    bodies = {operation_of(route.endpoint).body for route in routes}
    wanted = sorted((body for body in bodies if body is not None), key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in wanted], ref_template=_REFS)
    found: dict[str, Schema] = schemas["$defs"]
    for model, field in _NEEDED.items():
        given = found[model]["properties"]
        given[field] = {**TEXT, "minLength": 1, "examples": given[field]["examples"]}
        found[model]["required"] = [field]
    return found


def _operation(route: APIRoute, operation: Operation) -> Schema:
    path = route.path_format
    found: Schema = {"tags": route.tags, "summary": route.summary, "operationId": route.unique_id}
    if route.description:
        found["description"] = route.description
    found["security"] = _security(operation)
    errors = (
        *(() if operation.public else GUARDED),
        *(() if operation.body is None else READS_BODY),
        *operation.errors,
    )
    if parameters := (*re.findall(r"{(\w+)}", path), *operation.parameters):
        found["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in parameters]
    if operation.body is not None:
        examples = {name: {"value": value} for name, value in BODIES[operation.body.__name__].items()}
        found["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": ref(operation.body.__name__), "examples": examples}},
        }
    limited = _LIMITS if "rate_limited" in errors else ()
    responses = {str(status): _answer(answer, limited) for status, answer in operation.answers.items()}
    found["responses"] = {**responses, **_errors(path, errors)}
    return found


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    """The ways to authenticate. `{}` is one: with CHAT_AUTH=none no credential is needed."""
    if operation.public:
        return []
    ways: list[dict[str, list[str]]] = [{}, {"bearer": []}, {"key": []}]
    return [*ways, {"ticket": []}] if operation.ticket else ways


def _headers(names: Sequence[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def _answer(answer: Answer, limited: Sequence[str]) -> Schema:
    content = {}
    for media, (schema, example) in answer.bodies.items():
        content[media] = {"schema": ref(schema) if schema else TEXT}
        if example is not None:
            content[media]["example"] = example
    found: Schema = {"description": answer.description, "headers": _headers((*answer.headers, *limited))}
    return {**found, "content": content} if content else found


def _errors(path: str, codes: Sequence[str]) -> Schema:
    """By status, with an example per code in the envelope that the path has."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(CODES[code][0], []).append(code)
    found: Schema = {}
    for status, names in sorted(by_status.items()):
        media = envelope(path, ServiceError(names[0], ""))[1].partition(";")[0]
        schema = {
            "application/problem+json": ref("Problem"),
            "application/json": ref("OpenAIError"),
        }.get(media, TEXT)
        headers = ["WWW-Authenticate"] if status == 401 else []
        if status in _RETRIED:
            headers += ["Retry-After", "x-should-retry"]
        found[str(status)] = {
            "description": ", ".join(f"`{name}`" for name in names),
            "headers": _headers(headers),
            "content": {media: {"schema": schema, "examples": _examples(path, names)}},
        }
    return found


def _examples(path: str, codes: Sequence[str]) -> Schema:
    examples = {}
    for code in codes:
        body, media = envelope(path, ServiceError(code, f"{CODES[code][2]}."))
        examples[code] = {"value": body.decode() if media.startswith("text/") else orjson.loads(body)}
    return examples
