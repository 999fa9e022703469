"""Small functions and constants of which schemas.py makes its JSON schemas."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "integer"}
FLAG: Final[Schema] = {"type": "boolean"}
MILLISECONDS: Final[Schema] = {"type": "integer", "description": "milliseconds since 1970"}
SECONDS: Final[Schema] = {"type": "integer", "description": "seconds since 1970"}
OBJECT: Final[Schema] = {"type": "object"}
FLOAT: Final[Schema] = {"type": "number"}
NOTHING: Final[Schema] = {"type": "null"}
COST: Final[Schema] = {
    "type": ["object", "null"],
    "additionalProperties": TEXT,
    "description": "decimal amounts by currency; null: not known, which is not 0",
}
_TYPES: Final = {str: TEXT, int: NUMBER, bool: FLAG, float: FLOAT, type(None): NOTHING}


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


def like(
    example: dict[str, Any], description: str = "", /, optional: Schema | None = None, **other: Schema
) -> Schema:
    """An object with the fields of an example, and the types of its values; `other` are the schemas of fields
    for which that is not enough. OpenAI's field `object` has the example's value only."""
    known = {"object": one_of(example["object"]), **other} if "object" in example else other
    found = {name: known[name] if name in known else _type_of(value) for name, value in example.items()}
    return fields(description, optional, **found)


def _type_of(value: Any) -> Schema:
    if isinstance(value, dict):
        return like(value)
    if isinstance(value, list):
        return many(_type_of(value[0]))
    return _TYPES[type(value)]


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
