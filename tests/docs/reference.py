"""`python -m tests.docs.reference`: the generated part of docs/api.md, below its marker.

Everything in it comes from the OpenAPI document and from the table of error codes; what needs a
person's words stands above the marker and is left alone. `--write` puts it into the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.app import create_app
from service.errors import CODES
from service.settings import Settings
from tests.support.running import ROOT

PAGE = ROOT / "docs" / "api.md"
MARKER = "<!-- generated from here on: make docs -->"

# A description is a cell of a table here; what is longer stands in the document itself.
_LONGEST = 300

Json = dict[str, Any]


class Reference:
    def __init__(self, document: Json) -> None:
        self._document = document

    def lines(self) -> Iterator[str]:
        yield "## Routes"
        last = ""
        for path, item in self._document["paths"].items():
            for method in ("get", "post", "patch", "put", "delete"):
                if method not in item:
                    continue
                tag = (item[method].get("tags") or [""])[0]
                if tag != last:
                    last = tag
                    yield from ("", f"### {tag[:1].upper()}{tag[1:]}", *self._about(tag))
                yield from self._operation(method, path, item[method])
        yield from _errors()

    def _about(self, tag: str) -> Iterator[str]:
        for known in self._document.get("tags", ()):
            if known["name"] == tag and known.get("description"):
                yield from ("", known["description"].strip())

    def _operation(self, method: str, path: str, operation: Json) -> Iterator[str]:
        yield from ("", f"#### `{method.upper()} {path}`", "", _sentence(operation["summary"]))
        if operation.get("description"):
            yield from ("", operation["description"].strip())
        parameters = [self._resolved(one) for one in operation.get("parameters", ())]
        if parameters:
            yield from ("", "| parameter | in | meaning |", "|---|---|---|")
            for one in parameters:
                kind = self._type(one.get("schema", {}))
                meaning = _cell(one.get("description", "")) or kind
                yield f"| `{one['name']}`{'' if one.get('required') else '?'} | {one['in']} | {meaning} |"
        body = self._resolved(operation.get("requestBody", {}))
        for media, content in body.get("content", {}).items():
            yield from self._fields(media, self._resolved(content.get("schema", {})))
        yield from ("", "| answer | is | body | headers |", "|---|---|---|---|")
        for status, answer in operation["responses"].items():
            answer = self._resolved(answer)
            media = ", ".join(f"`{kind}`" for kind in answer.get("content", {}))
            headers = ", ".join(f"`{name}`" for name in answer.get("headers", {}))
            yield f"| {status} | {_cell(answer.get('description', ''))} | {media} | {headers} |"

    def _fields(self, media: str, schema: Json) -> Iterator[str]:
        properties = schema.get("properties", {})
        if not properties:
            return
        required = schema.get("required", ())
        yield from ("", f"| field (`{media}`) | type | meaning |", "|---|---|---|")
        for name, field in properties.items():
            field = self._resolved(field)
            mark = "" if name in required else "?"
            yield f"| `{name}`{mark} | {self._type(field)} | {_cell(field.get('description', ''))} |"

    def _resolved(self, item: Json) -> Json:
        if "$ref" not in item:
            return item
        found: Any = self._document
        for part in item["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        return {**self._resolved(found), **{key: item[key] for key in item if key != "$ref"}}

    def _type(self, schema: Json) -> str:
        schema = self._resolved(schema)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                kinds = [self._type(one) for one in schema[several] if one.get("type") != "null"]
                return " or ".join(dict.fromkeys(kinds))
        if "enum" in schema or "const" in schema:
            return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
        kind = schema.get("type", "any")
        if kind == "array":
            return f"list of {self._type(schema.get('items', {}))}"
        bounds = [
            f"{word} {schema[name]}"
            for name, word in (
                ("minimum", "from"), ("maximum", "to"), ("minLength", "from"), ("maxLength", "to"),
            )
            if name in schema
        ]  # fmt: skip
        unit = " characters" if bounds and kind == "string" else ""
        return f"{kind} {' '.join(bounds)}{unit}".strip()


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= _LONGEST else line[: line.rindex(" ", 0, _LONGEST)] + " ..."


def _errors() -> Iterator[str]:
    yield from ("", "## Errors", "")
    yield "Clients switch on the code, not on the words. `yes`: the same request can succeed later."
    yield from ("", "| code | status | may be repeated | title |", "|---|---|---|---|")
    for code, (status, retryable, title) in CODES.items():
        yield f"| `{code}` | {status} | {'yes' if retryable else 'no'} | {title} |"


def document() -> Json:
    """The OpenAPI document of a service with settings of its own, whatever the environment says."""
    made: Json = create_app(Settings(_env_file=None)).openapi()
    return made


def page(path: Path = PAGE) -> str:
    """The whole page as it should be."""
    head = path.read_text().partition(MARKER)[0]
    return "\n".join([f"{head}{MARKER}", "", *Reference(document()).lines()]) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())
