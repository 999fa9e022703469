"""`python -m tests.docs.reference`: the generated part of docs/api.md, below its marker.

Everything in it comes from the OpenAPI document and from the table of error codes; what needs a
person's words stands above the marker and is left alone. `--write` puts it into the page.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from service.app import create_app
from service.config.settings import Settings
from service.errors import CODES
from tests.support.running import ROOT

PAGE: Final = ROOT / "docs" / "api.md"
MARKER: Final = "<!-- generated from here on: make docs -->"

METHODS: Final = ("get", "post", "patch", "put", "delete")
# Headers that so many routes have that the page says so once, above the marker.
_USUAL_HEADERS: Final = re.compile(r"X-Request-Id|(X-)?RateLimit-.*")
# Codes that more than three of four routes with credentials have are said once.
_USUAL_SHARE: Final = 0.75
# Envelopes of errors, described above the marker too, and bodies of bodies that are said elsewhere.
_HIDDEN: Final = ("Problem", "OpenAIError", "UIMessageChunk", "ChatCompletionChunk")

Json = dict[str, Any]


class Reference:
    def __init__(self, document: Json) -> None:
        self._document = document
        self._schemas: Json = document["components"]["schemas"]
        guarded = [set(self._refusals(one)) for one in self._operations() if one.get("security")]
        self._usual = {
            code for code in CODES if sum(code in codes for codes in guarded) > len(guarded) * _USUAL_SHARE
        }

    def _operations(self) -> Iterator[Json]:
        for item in self._document["paths"].values():
            yield from (item[method] for method in METHODS if method in item)

    def lines(self) -> Iterator[str]:
        usual = ", ".join(f"`{code}`" for code in CODES if code in self._usual)
        yield from ("## Routes", "", f"Almost every route can refuse with {usual}.")
        yield "What else it can refuse with stands with it."
        last = ""
        for path, item in self._document["paths"].items():
            for method in METHODS:
                if method not in item:
                    continue
                tag = (item[method].get("tags") or [""])[0]
                if tag != last:
                    last = tag
                    yield from ("", f"### {_title(tag)}", *self._about(tag))
                yield from self._operation(method, path, item[method])
        yield from self._shapes()
        yield from _errors()

    def _about(self, tag: str) -> Iterator[str]:
        for known in self._document.get("tags", ()):
            if known["name"] == tag and known.get("description"):
                yield from ("", known["description"].strip())

    def _operation(self, method: str, path: str, operation: Json) -> Iterator[str]:
        yield from ("", f"#### `{method.upper()} {path}`", "", _sentence(operation["summary"]))
        if operation.get("description"):
            yield _sentence(operation["description"].strip())
        yield ""
        if not operation.get("security"):
            yield "- no credential needed"
        for one in map(self._resolved, operation.get("parameters", ())):
            if one["in"] != "path":
                yield f"- {one['in']} `{one['name']}`: {_cell(one.get('description', ''))}"
        for content in self._resolved(operation.get("requestBody", {})).get("content", {}).values():
            yield f"- body: {self._type(content['schema'])}, for example {self._example(content)}"
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                yield self._answer(status, self._resolved(answer))
        refusals = [code for code in self._refusals(operation) if code not in self._usual]
        if refusals:
            yield "- refuses with " + ", ".join(f"`{code}`" for code in refusals)

    def _answer(self, status: str, answer: Json) -> str:
        bodies = []
        for media, content in answer.get("content", {}).items():
            schema = content.get("schema", {})
            kind = self._type(schema) if "$ref" in schema else ""
            bodies.append(f"{kind} as `{media}`" if kind.startswith("[") else f"`{media}`")
        headers = [f"`{name}`" for name in answer.get("headers", {}) if not _USUAL_HEADERS.fullmatch(name)]
        line = f"- **{status}** {_cell(answer['description'])}"
        line += f": {' or '.join(bodies)}" if bodies else ""
        return line + (f"; {', '.join(headers)}" if headers else "")

    def _refusals(self, operation: Json) -> list[str]:
        """The codes in the descriptions of its errors."""
        return [
            code
            for status, answer in operation["responses"].items()
            if int(status) >= 400
            for code in re.findall(r"`(\w+)`", self._resolved(answer)["description"])
        ]

    def _example(self, content: Json) -> str:
        schema = self._resolved(content["schema"])
        several = content.get("examples", {})
        given = content.get("example", next(iter(several.values()))["value"] if several else None)
        if given is None:
            given = next(iter(schema.get("examples", [{}])))
        return f"`{json.dumps(given, ensure_ascii=False)}`"

    def _shapes(self) -> Iterator[str]:
        yield from ("", "## Shapes", "", "A field with `?` may be left out.")
        for name, schema in sorted(self._schemas.items()):
            if name in _HIDDEN or not schema.get("properties"):
                continue
            # An anchor of its own: some shapes are named like a group of routes.
            yield from ("", f'<a id="shape-{name.lower()}"></a>', "", f"### {name}", "")
            if schema.get("description"):
                yield from (_sentence(schema["description"]), "")
            yield " · ".join(self._field(field, kind, schema) for field, kind in schema["properties"].items())

    def _field(self, name: str, kind: Json, schema: Json) -> str:
        mark = "" if name in schema.get("required", ()) else "?"
        meaning = _cell(kind.get("description", ""))
        return f"`{name}`{mark} {self._type(kind)}" + (f" ({meaning})" if meaning else "")

    def _resolved(self, item: Json) -> Json:
        if "$ref" not in item:
            return item
        found: Any = self._document
        for part in item["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return self._resolved(found)

    def _type(self, schema: Json) -> str:
        """In words, with a link to the shape where it has one."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            found = self._schemas[name]
            if found.get("properties") and name not in _HIDDEN:
                return f"[{name}](#shape-{name.lower()})"
            return self._type(found)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return " or ".join(dict.fromkeys(self._type(one) for one in schema[several]))
        if "enum" in schema or "const" in schema:
            return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
        kind = schema.get("type", "anything")
        if isinstance(kind, list):
            return " or ".join(kind)
        if kind == "array":
            return f"list of {self._type(schema.get('items', {}))}"
        if kind == "object" and schema.get("properties"):
            return "{" + ", ".join(f"`{name}`" for name in schema["properties"]) + "}"
        return f"{kind}{_bounds(schema)}"


def _bounds(schema: Json) -> str:
    low = schema.get("minimum", schema.get("minLength"))
    high = schema.get("maximum", schema.get("maxLength"))
    words = [f"from {low}" if low is not None else "", f"to {high}" if high is not None else ""]
    text = "".join(f" {word}" for word in words if word)
    return f"{text} characters" if text and schema.get("type") == "string" else text


def _title(tag: str) -> str:
    return {"openai": "OpenAI", "aisdk": "AI SDK", "keys": "API keys"}.get(tag, tag.capitalize())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


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
