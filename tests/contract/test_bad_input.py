"""Bad input is a 4xx with a stable code and a sentence, in the envelope of its path; nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.conftest import Start
from tests.double import Double
from tests.support.service import Served

JSON = {"content-type": "application/json"}


def _history(item: bytes) -> bytes:
    return b'{"user_query":"x","history":[%b]}' % item


DEEP = b'{"user_query":"x","history":' + b"[" * 500 + b"]" * 500 + b"}"
LONG = b"x" * 65_537


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/chat", b"", 400, "invalid_request"),
        ("/chat", b"null", 400, "invalid_request"),
        ("/chat", b"[]", 400, "invalid_request"),
        ("/chat", b"{", 400, "invalid_request"),
        ("/chat", b"{}", 400, "query_empty"),
        ("/chat", b'{"user_query":""}', 400, "query_empty"),
        ("/chat", b'{"user_query":" \\n\\t"}', 400, "query_empty"),
        ("/chat", b'{"user_query":null}', 400, "query_empty"),
        ("/chat", b'{"user_query":5}', 400, "invalid_request"),
        ("/chat", b'{"user_query":["x"]}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","system_prompt":7}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","system_prompt":"%b"}' % LONG, 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","temperature":"hot"}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","temperature":9}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","temperature":"1"}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","temperature":true}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","temperature":NaN}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","max_completion_tokens":0}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","max_completion_tokens":1.5}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","session_id":"a b"}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","session_id":".."}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","session_id":""}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","session_id":"' + b"s" * 129 + b'"}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"x","model":"gpt-17"}', 404, "model_not_found"),
        ("/chat", b'{"user_query":"a\\u0000b"}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"\\ud800"}', 400, "invalid_request"),
        ("/chat", b'{"user_query":"\xff"}', 400, "invalid_request"),
        ("/chat", DEEP, 400, "invalid_request"),
        ("/chat-with-history", DEEP, 400, "invalid_request"),
        ("/chat-with-history", b'{"user_query":"x","history":"no"}', 400, "invalid_request"),
        ("/chat-with-history", b'{"user_query":"x","history":[1]}', 400, "invalid_request"),
        ("/chat-with-history", _history(b'{"role":"robot","content":"x"}'), 400, "invalid_request"),
        ("/chat-with-history", _history(b'{"role":"system","content":"x"}'), 400, "invalid_request"),
        ("/chat-with-history", _history(b'{"role":"user","content":null}'), 400, "invalid_request"),
        ("/chat-with-history", _history(b'{"role":"user"}'), 400, "invalid_request"),
        ("/chat-with-history", _history(b'{"role":"user","content":"x","id":1}'), 400, "invalid_request"),
        ("/v1/sessions/s/turns", b"{}", 400, "query_empty"),
        ("/v1/sessions/s/turns", b'{"content":"x","regenerate":true}', 400, "invalid_request"),
        ("/v1/sessions/s/turns", b'{"content":"x","on_busy":"wait"}', 400, "invalid_request"),
        ("/v1/sessions/s/turns", b'{"content":"x","params":{"temperature":3}}', 400, "invalid_request"),
        ("/v1/sessions/s/turns", b'{"regenerate":true}', 404, "session_not_found"),
        ("/v1/sessions/s/turns", b'{"edit":{"message_id":"m","content":"x"}}', 404, "session_not_found"),
        ("/v1/sessions/a%20b/turns", b'{"content":"x"}', 400, "invalid_request"),
        ("/v1/sessions", b'{"id":"a/b"}', 400, "invalid_request"),
        ("/v1/sessions", b'{"system_prompt":"%b"}' % LONG, 400, "invalid_request"),
    ],
)
async def test_a_bad_body_is_refused_and_nothing_is_stored(
    served: Served, store: redis.Redis, path: str, body: bytes, status: int, code: str
) -> None:
    answer = await served.client.post(path, content=body, headers=JSON)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    assert list(store.scan_iter("chat:{*")) == []


async def test_a_body_that_is_too_large_is_413(start: Start) -> None:
    async with start(max_body_bytes=2048) as served:
        answer = await served.client.post("/chat", json={"user_query": "x" * 3000})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

        async def chunks() -> Any:
            for _ in range(10):
                yield b"x" * 1000

        unsized = await served.client.post("/chat", content=chunks(), headers=JSON)
        assert (unsized.status_code, unsized.json()["code"]) == (413, "body_too_large")


async def test_a_message_that_can_never_fit_is_413_and_not_stored(start: Start, store: redis.Redis) -> None:
    async with start(max_body_bytes=8_000_000) as served:
        answer = await served.client.post("/chat", json={"user_query": "word " * 200_000, "session_id": "s"})
        assert (answer.status_code, answer.json()["code"]) == (413, "context_too_long")
        assert list(store.scan_iter("chat:{*")) == []


async def test_another_content_type_is_415(served: Served) -> None:
    answer = await served.client.post("/chat", data={"user_query": "x"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 200), ("", 200)])
async def test_a_packed_body_is_refused_as_one(served: Served, encoding: str, status: int) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = await served.client.post("/chat", content=b'{"user_query": "[[say=ok]]"}', headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert answer.json()["detail"] == "Send the body without Content-Encoding."


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/chat", 405, "method_not_allowed"),
        ("DELETE", "/chat", 405, "method_not_allowed"),
        ("GET", "/v1/sessions/none", 404, "session_not_found"),
        ("PATCH", "/v1/sessions/none", 404, "session_not_found"),
        ("DELETE", "/v1/sessions/none", 404, "session_not_found"),
        ("GET", "/v1/sessions/none/messages", 404, "session_not_found"),
        ("GET", "/v1/sessions/none/export", 404, "session_not_found"),
        ("GET", "/v1/sessions/none/turns/t", 404, "turn_not_found"),
        ("GET", "/v1/sessions/none/turns/t/events", 404, "turn_not_found"),
        ("POST", "/v1/sessions/none/turns/t/stop", 404, "turn_not_found"),
        ("POST", "/v1/sessions/none/turns/t/ticket", 404, "turn_not_found"),
        ("POST", f"/v1/sessions/none/turns/t_{'0' * 26}/ticket", 404, "turn_not_found"),
        ("GET", "/v1/sessions/none/events", 404, "session_not_found"),
        ("GET", f"/v1/sessions/none/images/{'0' * 64}", 404, "session_not_found"),
        ("GET", "/v1/sessions?limit=0", 400, "invalid_request"),
        ("GET", "/v1/sessions?limit=x", 400, "invalid_request"),
        ("GET", "/v1/sessions?cursor=x", 400, "invalid_request"),
        ("GET", "/v1/sessions?cursor=%C2%B2", 400, "invalid_request"),
        ("GET", f"/v1/sessions?cursor={'9' * 5000}", 400, "invalid_request"),
        ("GET", "/v1/sessions?limit=%D9%A3", 400, "invalid_request"),
        ("GET", "/v1/sessions?limit=000000001999999999999999999999", 400, "invalid_request"),
        ("GET", f"/v1/sessions/s/messages?limit=000000001{'9' * 5000}", 400, "invalid_request"),
        ("GET", f"/v1/sessions/s/messages?cursor={'9' * 5000}", 400, "invalid_request"),
        ("GET", "/v1/sessions/s/messages?cursor=%C2%B2", 400, "invalid_request"),
        ("GET", "/v1/usage?days=000000001999999", 400, "invalid_request"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    served: Served, method: str, path: str, status: int, code: str
) -> None:
    answer = await served.client.request(method, path, json={} if method == "PATCH" else None)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/completions", 404, "not_found"),
        ("GET", "/v1/nothing/at/all", 404, "not_found"),
        ("POST", "/v1/v1/chat/completions", 404, "not_found"),
        ("PUT", "/v1/sessions", 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/openai/v1/embeddings", 404, "not_found"),
        ("DELETE", "/openai/v1/models", 405, "method_not_allowed"),
        ("POST", "/v1/responses/compact", 404, "not_found"),
        ("POST", "/v1/responses/input_tokens", 404, "not_found"),
        ("POST", "/openai/v1/responses/compact", 404, "not_found"),
        ("POST", "/v1/responses/resp_1", 405, "method_not_allowed"),
        ("GET", "/v1/responses", 405, "method_not_allowed"),
    ],
)
async def test_where_nothing_is_below_v1_openais_clients_can_read_it(
    served: Served, method: str, path: str, status: int, code: str
) -> None:
    answer = await served.client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    error = answer.json()["error"]
    assert (error["code"], error.keys()) == (code, {"message", "type", "param", "code"})
    assert (answer.headers.get("allow") is not None) == (status == 405)


async def test_a_websocket_finds_nothing_anywhere(served: Served) -> None:
    """OpenAI's SDKs have one for Responses; 404 tells them that there is none, 405 would not."""
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = await served.client.get("/v1/responses", headers=handshake)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_blank_items_of_a_history_are_left_out(served: Served, double: Double) -> None:
    """What the original guide's page holds after an answer that failed or was stopped before any text."""
    history = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": " \n\t"},
        {"role": "assistant", "content": "second"},
    ]
    body = {"user_query": "[[say=third]]", "history": history}
    answer = await served.client.post("/chat-with-history", json=body)
    assert (answer.status_code, answer.text) == (200, "third")
    [call] = list(double.calls)
    contents = [one["content"] for one in json.loads(call.body)["messages"] if one["role"] != "system"]
    assert contents == ["first", "second", "[[say=third]]"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/chat/", "application/problem+json"),
        ("/v1/chat/completions/", "application/json"),
        ("/api/chat/", "text/plain; charset=utf-8"),
    ],
)
async def test_an_address_with_a_slash_too_many_is_404_in_its_envelope(
    served: Served, path: str, kind: str
) -> None:
    answer = await served.client.post(path, json={})
    assert (answer.status_code, answer.headers["content-type"]) == (404, kind)


async def test_all_other_text_passes_unchanged(served: Served) -> None:
    text = '\x01\x1f\x7f\u2028\u0085\u202e 👩‍👩‍👧 𝕏 \r\n\t "quotes" \\u0041 é e\u0301'
    first = await served.client.post("/chat", json={"user_query": text + "[[tokens=1]]", "session_id": "s"})
    assert first.status_code == 200
    messages = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
    assert messages[0]["content"] == text + "[[tokens=1]]"


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x80b"])
async def test_a_bad_idempotency_key_is_refused(served: Served, key: str) -> None:
    answer = await served.client.post(
        "/chat", json={"user_query": "x"}, headers={b"Idempotency-Key": key.encode("latin-1")}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_an_idempotency_key_may_be_any_text(served: Served, double: Double) -> None:
    body = {"user_query": "[[tokens=2]]"}
    for key in ("Übung 語".encode(), "Übung".encode("latin-1")):
        headers = {b"Idempotency-Key": key}
        first = await served.client.post("/chat", json=body, headers=headers)
        again = await served.client.post("/chat", json=body, headers=headers)
        assert first.status_code == again.status_code == 200
        assert again.headers["x-turn-id"] == first.headers["x-turn-id"]
    assert len(double.calls.find()) == 2


async def test_a_request_id_is_taken_over_only_when_it_is_clean(served: Served) -> None:
    kept = await served.client.get("/livez", headers={"X-Request-Id": "abc-1.2_3"})
    assert kept.headers["x-request-id"] == "abc-1.2_3"
    made = await served.client.get("/livez", headers={"X-Request-Id": "no good"})
    assert made.headers["x-request-id"].startswith("r_")


async def test_cors_lets_the_dev_origins_in_with_credentials(served: Served) -> None:
    asked = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,last-event-id,idempotency-key,authorization",
    }
    allowed = await served.client.options("/chat", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert allowed.headers["access-control-allow-credentials"] == "true"
    answer = await served.client.get("/health", headers={"Origin": "http://localhost:5173"})
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert all(
        name in exposed
        for name in (
            "x-session-id",
            "x-turn-id",
            "x-request-id",
            "location",
            "retry-after",
            "content-disposition",
        )
    )
    stranger = await served.client.get("/health", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers
