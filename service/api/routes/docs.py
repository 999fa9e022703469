"""`/docs` and `/openapi.json`: the API's document, for people and for programs.

The page is made of the document here, without a script and with nothing from elsewhere, so it works
without a network and runs no code on the origin that holds API keys. Both are made once per worker,
in a thread when they are first asked for (0.5 s), and answered from memory. CHAT_DOCS=false: 404.
What the document says is openapi.py's.
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from service.api.answers import Json
from service.api.request_state import request_state
from service.api.routes import page
from service.api.routes.page import File, Page
from service.errors import ServiceError

router = APIRouter(include_in_schema=False)

_METHODS: Final = ("get", "post", "patch", "put", "delete")
_DATA: Final = {"Cache-Control": "no-cache"}
_PAGE: Final = {
    **page.HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}
_HEAD: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="ui/icon.svg">
<link rel="stylesheet" href="ui/css/theme.css">
<link rel="stylesheet" href="ui/css/docs.css">
</head>
<body>
"""

Document = dict[str, Any]


class Documents:
    """The page and the document, made when the first of the two is asked for."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._made: tuple[Page, Page] | None = None

    def get(self) -> tuple[Page, Page]:
        """The page and the document. Blocks."""
        with self._lock:
            if self._made is None:
                document = self._app.openapi()
                text = Reference(document).html().encode()
                self._made = (
                    Page({"docs": File.of("text/html; charset=utf-8", text)}, _PAGE),
                    Page({"openapi": File.of("application/json", orjson.dumps(document))}, _DATA),
                )
            return self._made


def _documents(request: Request) -> tuple[Page, Page]:
    documents: Documents | None = request.app.state.documents
    if documents is None:
        raise ServiceError("not_found", "There is nothing at this address.")
    return documents.get()


# Not `async`: Starlette runs them in a thread.
@router.get("/docs", summary="The API's document, for people")
def docs(request: Request) -> Response:
    return _documents(request)[0].respond(request, "docs")


@router.get("/openapi.json", summary="The API's document")
def openapi(request: Request) -> Response:
    document = _documents(request)[1]
    if prefix := request_state(request).prefix:
        return Json({**request.app.openapi(), "servers": [{"url": prefix}]}, headers=_DATA)
    return document.respond(request, "openapi")


class Reference:
    """An OpenAPI document as one HTML page."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._schemas: Document = document["components"]["schemas"]

    def html(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        info = self._document["info"]
        yield _HEAD.format(title=_text(info["title"]))
        yield f"<header><h1>{_text(info['title'])} <small>{_text(info['version'])}</small></h1>"
        yield from (f"<p>{_words(part)}</p>" for part in info["description"].split("\n\n"))
        yield '<p><a href="openapi.json">openapi.json</a> is the same for programs.</p></header>'
        tags = self._document["tags"]
        links = [f'<a href="#{_text(tag["name"])}">{_text(tag["name"])}</a>' for tag in tags]
        yield f'<nav>{" ".join(links)} <a href="#shapes">shapes</a></nav><main>'
        for tag in tags:
            yield f'<h2 id="{_text(tag["name"])}">{_text(tag["name"])}</h2>'
            yield f"<p>{_words(tag['description'])}</p>"
            for path, item in self._document["paths"].items():
                for method in _METHODS:
                    if tag["name"] in item.get(method, {}).get("tags", ()):
                        yield from self._operation(method, path, item[method])
        yield '<h2 id="shapes">shapes</h2>'
        for name, schema in sorted(self._schemas.items()):
            yield from self._shape(name, schema)
        yield "</main></body></html>"

    def _operation(self, method: str, path: str, operation: Document) -> Iterator[str]:
        yield f'<details class="operation" id="{_text(operation["operationId"])}"><summary>'
        yield f'<b class="{method}">{method.upper()}</b> <code>{_text(path)}</code>'
        yield f"<span>{_words(operation['summary'])}</span></summary>"
        if operation.get("description"):
            yield f"<p>{_words(operation['description'])}</p>"
        if not operation.get("security"):
            yield "<p>No credential needed.</p>"
        parameters = [self._parameter(one) for one in operation.get("parameters", ())]
        yield from _table(
            "Parameters",
            [
                (
                    f"<code>{_text(one['name'])}</code>",
                    _text(one["in"]),
                    self._kind(one["schema"]),
                    _words(one.get("description", "")),
                )
                for one in parameters
            ],
        )
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"<h4>Body</h4><p><code>{_text(media)}</code>: {self._kind(content['schema'])}</p>"
            for name, example in content.get("examples", {}).items():
                yield f"<p>{_words(name)}</p>{_block(example['value'])}"
        yield "<h4>Answers</h4>"
        for status, answer in operation["responses"].items():
            yield from self._answer(status, answer)
        yield "</details>"

    def _answer(self, status: str, answer: Document) -> Iterator[str]:
        contents = answer.get("content", {})
        line = f"<b>{_text(status)}</b> {_words(answer['description'])}"
        examples = []
        for media, content in contents.items():
            kind = self._kind(content.get("schema", {}))
            line += f" · <code>{_text(media)}</code> {kind}"
            given = [one["value"] for one in content.get("examples", {}).values()]
            examples += [content["example"]] if "example" in content else given
        if not examples:
            yield f'<p class="answer">{line}</p>'
            return
        yield f'<details class="answer"><summary>{line}</summary>'
        yield from (_block(example) for example in examples)
        yield "</details>"

    def _shape(self, name: str, schema: Document) -> Iterator[str]:
        yield f'<details id="shape-{_text(name)}"><summary><code>{_text(name)}</code>'
        yield f"<span>{_words(schema.get('description', ''))}</span></summary>"
        required = schema.get("required", ())
        fields = [
            (
                f"<code>{_text(field)}</code>{'' if field in required else '?'}",
                self._kind(kind),
                _words(kind.get("description", "")),
            )
            for field, kind in schema.get("properties", {}).items()
        ]
        if fields:
            yield from _table("Fields", fields)
        else:
            yield f"<p>{self._kind(schema)}</p>"
        yield "</details>"

    def _parameter(self, given: Document) -> Document:
        found: Document = self._document["components"]["parameters"][given["$ref"].rpartition("/")[2]]
        return found

    def _kind(self, schema: Document) -> str:
        """A type in words, with a link to its shape where it has one."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f'<a href="#shape-{_text(name)}">{_text(name)}</a>'
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return " or ".join(dict.fromkeys(self._kind(one) for one in schema[several]))
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            return ", ".join(f"<code>{_text(json.dumps(value))}</code>" for value in values)
        kind = schema.get("type", "anything")
        if kind == "array":
            return f"list of {self._kind(schema.get('items', {}))}"
        return _text(" or ".join(kind) if isinstance(kind, list) else kind)


def _table(title: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield f"<h4>{title}</h4><table>"
        yield from (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        yield "</table>"


def _text(text: str) -> str:
    return html.escape(text)


def _words(text: str) -> str:
    """Sentences, in which backticks stand around code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _block(example: Any) -> str:
    text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
    return f"<pre>{_text(text)}</pre>"
