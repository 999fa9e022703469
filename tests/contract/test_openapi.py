"""The OpenAPI document: complete, and true to real answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from service.api import openapi
from service.app import create_app
from service.config.settings import Settings
from service.errors import CODES
from tests.conftest import Start
from tests.support.service import Served

APP = create_app(Settings(_env_file=None))
DOCUMENT: dict[str, Any] = APP.openapi()


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every media type object of requests and answers, with its place."""
    for name, operation in operations():
        bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
        for place, body in bodies.items():
            for media, content in body.get("content", {}).items():
                yield f"{name} {place} {media}", content


def check(schema: dict[str, Any], value: Any) -> None:
    validator = jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    validator.validate(value)


def test_a_route_that_says_nothing_of_itself_is_an_error() -> None:
    app, router = FastAPI(), APIRouter(tags=["text"])
    router.add_api_route("/silent", lambda: None, summary="Says nothing")
    app.include_router(router)
    openapi.install(app, [route for route in router.routes if isinstance(route, APIRoute)])
    with pytest.raises(KeyError, match="operation"):
        app.openapi()


def test_nothing_is_answered_with_422() -> None:
    assert all("422" not in operation["responses"] for _, operation in operations())


def events(stream: str) -> list[dict[str, str]]:
    blocks = [block for block in stream.split("\n\n") if "data: " in block]
    return [
        {name: value for name, _, value in (line.partition(": ") for line in block.split("\n"))}
        for block in blocks
    ]


def check_events(schema: dict[str, Any], stream: str) -> None:
    """Each event, and the JSON in its data, fit one of the kinds that the schema lists."""
    name = schema["$ref"].rpartition("/")[2]
    for event in events(stream):
        fitting = 0
        for kind in DOCUMENT["components"]["schemas"][name]["anyOf"]:
            try:
                check(kind, event)
                if "contentSchema" in kind["properties"]["data"]:
                    check(kind["properties"]["data"]["contentSchema"], json.loads(event["data"]))
            except (jsonschema.ValidationError, json.JSONDecodeError):
                continue
            fitting += 1
        assert fitting == 1, event


def test_every_example_is_what_its_schema_says() -> None:
    seen = 0
    for place, content in contents():
        examples = [example["value"] for example in content.get("examples", {}).values()]
        for example in [*examples, *([content["example"]] if "example" in content else [])]:
            try:
                if place.endswith("text/event-stream"):
                    check_events(content["schema"], example)
                else:
                    check(content["schema"], example)
            except jsonschema.ValidationError as error:
                raise AssertionError(f"{place}: {error.message}") from error
            seen += 1
    assert seen > 300


def test_every_answer_with_a_body_has_an_example() -> None:
    without = [
        place
        for place, content in contents()
        if not (content.keys() & {"example", "examples"}) and "text/html" not in place
    ]
    assert without == ["GET /client/resumable-fetch.js 200 text/javascript"]


def test_every_error_code_is_described_somewhere() -> None:
    described = set()
    for _, operation in operations():
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                described |= content.get("examples", {}).keys() & CODES.keys()
    # What no route answers by itself: addresses and methods that do not exist.
    assert CODES.keys() - described == {"method_not_allowed"}


async def test_a_field_that_a_body_must_have_is_said_to_be_required(served: Served) -> None:
    for path, name in {"/chat": "ChatBody", "/chat-with-history": "ChatWithHistoryBody"}.items():
        schema = DOCUMENT["components"]["schemas"][name]
        assert schema["required"] == ["user_query"]
        for body in ({}, {"user_query": None}, {"user_query": ""}):
            answer = await served.client.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "query_empty")
            with pytest.raises(jsonschema.ValidationError):
                check(schema, body)


def test_references_lead_somewhere() -> None:
    for found in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        place: Any = DOCUMENT
        for part in found.split("/"):
            place = place[part]


def test_every_parameter_of_a_path_is_described() -> None:
    for name, operation in operations():
        described = {ref["$ref"].rpartition("/")[2] for ref in operation.get("parameters", ())}
        assert set(re.findall(r"{(\w+)}", name)) <= described


# Real answers


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "asked", ["[[tokens=9 reasoning=3]]", "[[tokens=9 fault=cut after=4]]", "[[tool=weather]]"]
)
async def test_real_streams_are_what_the_document_says(served: Served, asked: str) -> None:
    said = [{"role": "user", "content": asked}]
    user = {"id": "u", "role": "user", "parts": [{"type": "text", "text": asked}]}
    body = {"messages": said, "stream": True, "tools": [TOOL], "stream_options": {"include_usage": True}}
    answer = await served.client.post("/v1/chat/completions", json=body)
    check_events({"$ref": "CompletionEvent"}, answer.text)
    session, turn = answer.headers["x-session-id"], answer.headers["x-turn-id"]
    native = await served.client.get(f"/v1/sessions/{session}/turns/{turn}/events")
    check_events({"$ref": "TurnEvent"}, native.text)
    resource = await served.client.get(f"/v1/sessions/{session}/turns/{turn}")
    check({"$ref": "#/components/schemas/Turn"}, resource.json())
    page = await served.client.get(f"/v1/sessions/{session}/messages")
    check({"$ref": "#/components/schemas/Messages"}, page.json())
    chat = await served.client.post("/api/chat", json={"id": "c", "messages": [user]})
    check_events({"$ref": "UIMessageEvent"}, chat.text)


async def test_without_credentials_every_guarded_route_is_401_as_described(start: Start) -> None:
    guarded = [(name, operation) for name, operation in operations() if operation["security"]]
    assert len(guarded) > 25
    async with start(auth=("keys",)) as served:
        for name, operation in guarded:
            method, path = name.split(" ")
            answer = await served.client.request(method, path.replace("{", "").replace("}", ""))
            assert answer.status_code == 401, name
            [(media, content)] = operation["responses"]["401"]["content"].items()
            assert answer.headers["content-type"].partition(";")[0] == media
            check(content["schema"], answer.text if media.startswith("text/") else answer.json())
            assert answer.headers["www-authenticate"]


async def test_405_names_every_method_of_the_address(served: Served) -> None:
    for path, methods in {
        "/v1/sessions": "GET, HEAD, POST, DELETE",
        "/v1/sessions/s": "GET, HEAD, PATCH, DELETE",
        "/chat": "POST",
        "/health": "GET, HEAD",
        "/openapi.json": "GET, HEAD",
        "/v1/models": "GET, HEAD",
    }.items():
        answer = await served.client.put(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
