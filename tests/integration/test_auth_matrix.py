"""The authorisation matrix: every route of the OpenAPI document for every kind of caller.

A route that is added is in the matrix at once, and fails here until it asks who is calling or
is named among the open ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRouter

from service.app import create_app
from service.config.settings import Settings
from service.dialects.responses_object import public_id
from service.ids import answer_id
from service.store.principals import Entry
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.support.identity import bearer, credentials_of, id_in, make_key
from tests.support.issuer import SECRET, token
from tests.support.pictures import png
from tests.support.service import Served

OPEN = {
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/client/resumable-fetch.js"),
}
# Not in the document, and open: the page, the document itself and its viewer.
HIDDEN = {"/openapi.json", "/docs", "/ui", "/ui/", "/ui/{name:path}"}
ADMIN = {
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("PATCH", "/v1/keys/{key_id}"),
    ("POST", "/v1/keys/{key_id}/rotate"),
    ("DELETE", "/v1/keys/{key_id}"),
    ("GET", "/v1/principals"),
    ("POST", "/v1/principals"),
    ("DELETE", "/v1/principals/{principal_id}"),
    ("GET", "/v1/usage/principals"),
    ("GET", "/v1/turns"),
    ("POST", "/v1/turns/stop"),
}

# Bodies that are good enough for a caller who may; who may not never gets so far.
BODIES: dict[str, Any] = {
    "/chat": {"user_query": "hi", "session_id": "s"},
    "/chat-with-history": {"user_query": "hi", "session_id": "fresh"},
    "/v1/sessions": {"id": "s"},
    "/v1/sessions/{session_id}": {"title": "t"},
    "/v1/sessions/{session_id}/turns": {"content": "hi"},
    "/v1/chat/completions": {"model": "openai/gpt-oss-120b", "messages": [{"role": "user", "content": "hi"}]},
    "/openai/v1/chat/completions": {
        "model": "openai/gpt-oss-120b",
        "messages": [{"role": "user", "content": "hi"}],
    },
    "/api/chat": {
        "id": "ui",
        "trigger": "submit-message",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}],
    },
    "/v1/responses": {"input": "hi"},
    "/openai/v1/responses": {"input": "hi"},
    "/v1/conversations": {},
    "/openai/v1/conversations": {},
    "/v1/conversations/{conversation_id}": {"metadata": {}},
    "/openai/v1/conversations/{conversation_id}": {"metadata": {}},
    "/v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "hi"}]},
    "/openai/v1/conversations/{conversation_id}/items": {"items": [{"role": "user", "content": "hi"}]},
    "/v1/keys": {"name": "made"},
    "/v1/keys/{key_id}": {"max_running_turns": 3},
    "/v1/principals": {"subject": "bob", "max_running_turns": 1},
    "/v1/turns/stop": {"principal": "owner.nobody"},
}

IMAGE = "0" * 64

Route = tuple[str, str]


def documented() -> list[Route]:
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    return sorted((method.upper(), path) for path, methods in paths.items() for method in methods)


ROUTES = documented()
GUARDED = [route for route in ROUTES if route not in OPEN]
_NAMES = ("{session_id}", "{conversation_id}", "{response_id}")
OWNED = [route for route in GUARDED if any(name in route[1] for name in _NAMES)]

guarded = pytest.mark.parametrize(("method", "path"), GUARDED, ids=lambda value: value)
owned = pytest.mark.parametrize(("method", "path"), OWNED, ids=lambda value: value)


class Doors:
    """A served service with one finished turn, and how to knock at a route."""

    def __init__(self, served: Served, turn: str, spare: str) -> None:
        self.served = served
        self.turn = turn
        self.spare = spare

    async def knock(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        url = path.format(
            session_id="s",
            turn_id=self.turn,
            model_id="openai/gpt-oss-120b",
            key_id=id_in(self.spare),
            principal_id="jwt.alice",
            image=IMAGE,
            conversation_id="s",
            response_id=public_id("resp", "s", self.turn),
            item_id=public_id("msg", "s", self.turn),
        )
        client = self.served.client
        body = self._body(path) if method != "GET" else None
        answer = await client.send(client.build_request(method, url, json=body, headers=headers), stream=True)
        if answer.status_code == 200 and path == "/v1/sessions/{session_id}/events":
            await answer.aclose()  # it has no end
        else:
            await answer.aread()
        return answer

    def _body(self, path: str) -> Any:
        if path.endswith("/fork"):
            return {"through": answer_id(self.turn)}
        return BODIES.get(path)


async def doors(served: Served, owner: str) -> Doors:
    answer = await served.client.post(
        "/v1/sessions/s/turns", json={"content": "[[tokens=3]] the owner's words"}, headers=bearer(owner)
    )
    assert answer.status_code == 200, answer.text
    principal = (await served.client.get("/v1/usage", headers=bearer(owner))).json()["principal"]
    store = served.app.state.edge.engine.store
    await store.principals.set(Entry("jwt.alice", "alice"))
    await store.images.put(TurnRef(principal, "s", answer.headers["x-turn-id"]), IMAGE, png())
    return Doors(served, answer.headers["x-turn-id"], await make_key(served))


def test_the_matrix_knows_every_route() -> None:
    assert set(ROUTES) >= OPEN | ADMIN
    assert set(BODIES) <= {path for _, path in ROUTES}
    assert len(GUARDED) >= 20


def test_routes_outside_the_document_are_the_page_and_the_document() -> None:
    assert set(_hidden(create_app(Settings(_env_file=None)).router)) == HIDDEN


def _hidden(router: APIRouter) -> Iterator[str]:
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from _hidden(inner)
        elif not getattr(route, "include_in_schema", False):
            yield getattr(route, "path", repr(route))


@pytest.mark.parametrize(("method", "path"), sorted(OPEN), ids=lambda value: value)
async def test_an_open_route_asks_for_no_credentials(start: Start, method: str, path: str) -> None:
    async with start(auth="keys") as served:
        for headers in ({}, bearer("wrong")):
            assert (await served.client.request(method, path, headers=headers)).status_code == 200


@guarded
async def test_a_guarded_route_refuses_whoever_is_nobody(start: Start, method: str, path: str) -> None:
    async with start(auth="keys,jwt", jwt_key=SECRET, jwt_algorithms="HS256") as served:
        owner = await make_key(served, scopes=("chat", "admin"))
        at = await doors(served, owner)
        expired = await make_key(served, scopes=("chat", "admin"), expires=-1)
        revoked = await make_key(served, scopes=("chat", "admin"))
        await credentials_of(served).revoke(id_in(revoked))
        nobody = {
            "no credentials": {},
            "a wrong key": bearer(owner[:-3] + "xxx"),
            "an expired key": bearer(expired),
            "a revoked key": bearer(revoked),
            "a wrong token": bearer(token(key="another secret of 32 characters!")),
            "an expired token": bearer(token(lives=-3_600, scope="chat admin")),
        }
        for who, headers in nobody.items():
            answer = await at.knock(method, path, headers)
            assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, "Bearer"), who
            assert "the owner's words" not in answer.text


@guarded
async def test_a_guarded_route_admits_whoever_may(start: Start, method: str, path: str) -> None:
    async with start(auth="keys,jwt", jwt_key=SECRET, jwt_algorithms="HS256") as served:
        owner = await make_key(served, owner="team")
        at = await doors(served, owner)
        admin = await make_key(served, owner="team", scopes=("chat", "admin"))
        only_admin = await make_key(served, owner="team", scopes=("admin",))
        plain, full, narrow = [
            (await at.knock(method, path, bearer(key))).status_code for key in (owner, admin, only_admin)
        ]
        if (method, path) in ADMIN:
            assert plain == 403
            assert full in (200, 201, 204)
            assert narrow in (200, 201, 204, 404)  # what the one before has revoked is gone
        else:
            # 4xx of other kinds: the first caller may have deleted what the second asks for.
            assert plain in (200, 201, 204)
            assert full not in (401, 403)
            assert narrow == 403


@owned
async def test_a_route_of_a_session_shows_nothing_of_it_to_others(
    start: Start, method: str, path: str
) -> None:
    async with start(auth="keys,jwt", jwt_key=SECRET, jwt_algorithms="HS256") as served:
        owner = await make_key(served)
        at = await doors(served, owner)
        others = {
            "another key": bearer(await make_key(served)),
            "an admin": bearer(await make_key(served, scopes=("chat", "admin"))),
            "a token": bearer(token("mallory", exp=int(time.time()) + 60)),
        }
        for who, headers in others.items():
            answer = await at.knock(method, path, headers)
            if (method, path) == ("POST", "/v1/sessions/{session_id}/turns"):
                assert answer.status_code == 200, who  # a session of that id, but of their own
            else:
                assert answer.status_code in (204, 404), who
            assert "the owner's words" not in answer.text, who
        messages = await served.client.get("/v1/sessions/s/messages", headers=bearer(owner))
        assert [message["role"] for message in messages.json()["data"]] == ["user", "assistant"]
