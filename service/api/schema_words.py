"""The words that our JSON schemas are written in. What they describe stands in schemas.py."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "integer"}
FLAG: Final[Schema] = {"type": "boolean"}
MILLISECONDS: Final[Schema] = {"type": "integer", "description": "milliseconds since 1970"}
SECONDS: Final[Schema] = {"type": "integer", "description": "seconds since 1970"}
OBJECT: Final[Schema] = {"type": "object"}
COST: Final[Schema] = {
    "type": ["object", "null"],
    "additionalProperties": TEXT,
    "description": "decimal amounts by currency; null: not known, which is not 0",
}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def many(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def maybe(schema: Schema) -> Schema:
    """The same or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def fields(description: str = "", /, optional: Schema | None = None, **required: Schema) -> Schema:
    """An object with these fields and no other."""
    found: Schema = {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }
    return {**found, "description": description} if description else found


def event(data: Schema, *, name: str | None = None, number: Schema | None = None) -> Schema:
    """One Server-Sent Event; its `data` is JSON in a string, or a word."""
    text = (
        data if "const" in data else {**TEXT, "contentMediaType": "application/json", "contentSchema": data}
    )
    found: Schema = {"type": "object", "properties": {"data": text}, "required": ["data"]}
    for field, schema in (("event", {"const": name} if name else None), ("id", number)):
        if schema is not None:
            found["properties"][field] = schema
            found["required"].append(field)
    return found
