"""Tools and forms of answers as /v1/responses has them, flat, and as chat completions nest them."""

from __future__ import annotations

from typing import Any

from service.dialects.base import invalid, unsupported


def format_of(form: dict[str, Any]) -> dict[str, Any] | None:
    """text.format is flat; chat completions nest the schema."""
    kind = form.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": kind}
    if kind != "json_schema":
        raise unsupported("text.format.type", "text.format is of type text, json_object or json_schema.")
    if not isinstance(form.get("name"), str) or not form["name"]:
        raise invalid("text.format.name", "has to be a text.")
    if not isinstance(form.get("schema"), dict):
        raise invalid("text.format.schema", "has to be an object.")
    schema = {
        name: form[name] for name in ("name", "description", "schema", "strict") if form.get(name) is not None
    }
    return {"type": kind, "json_schema": schema}


def tool_of(tool: dict[str, Any], place: int) -> dict[str, Any]:
    where = f"tools[{place}]"
    if tool.get("type") != "function":
        raise unsupported(f"{where}.type", "Only tools of type function are supported.")
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise invalid(f"{where}.name", "has to be a text.")
    if not isinstance(tool.get("parameters") or {}, dict):
        raise invalid(f"{where}.parameters", "has to be an object.")
    names = ("name", "description", "parameters", "strict")
    return {
        "type": "function",
        "function": {name: tool[name] for name in names if tool.get(name) is not None},
    }


def choice_of(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if choice is None or choice in ("none", "auto", "required"):
        return choice
    if not isinstance(choice, dict) or choice.get("type") != "function":
        raise unsupported("tool_choice", "tool_choice is none, auto, required or one function.")
    if not isinstance(choice.get("name"), str) or not choice["name"]:
        raise invalid("tool_choice.name", "has to be a text.")
    return {"type": "function", "function": {"name": choice["name"]}}
