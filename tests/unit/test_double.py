"""The double behaves as Groq does, seen through the real SDK and on the wire.

Every test talks HTTP to a real server. Waits are bounded by the double itself (`calls?wait=`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import groq
import httpx
import pytest

from service.double import Double, create_double, expected_text, expected_tokens, faults, running
from service.double.limits import Limits, go_duration
from service.double.refusals import Refusal
from service.double.script import directives

MODEL = "openai/gpt-oss-120b"
QWEN = "qwen/qwen3.8-27b"
CHAT = "/openai/v1/chat/completions"


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Double, str]]:
    double = create_double(rate=0)
    with running(double) as url:
        yield double, url


@pytest.fixture
def double(served: tuple[Double, str]) -> Iterator[Double]:
    double, _ = served
    before = double.settings
    yield double
    double.faults.clear()
    double.configure(before)


@pytest.fixture
async def http(served: tuple[Double, str], double: Double) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served[1], timeout=10) as client:
        yield client


@pytest.fixture
async def client(served: tuple[Double, str], double: Double) -> AsyncIterator[groq.AsyncGroq]:
    async with groq.AsyncGroq(api_key="gsk_test", base_url=served[1], max_retries=0, timeout=10) as client:
        yield client


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def create(client: groq.AsyncGroq, messages: list[dict[str, Any]], **params: Any) -> Any:
    """The SDK's own call; its many overloads say nothing to a test."""
    completions: Any = client.chat.completions
    return await completions.create(**{"model": MODEL, "messages": messages, **params})


async def stream(client: groq.AsyncGroq, text: str, **params: Any) -> list[Any]:
    messages = params.pop("messages", None) or user(text)
    params = {"max_completion_tokens": 10_000, **params}
    chunks = await create(client, messages, stream=True, **params)
    return [chunk async for chunk in chunks]


def said(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def ask(client: groq.AsyncGroq, text: str, **params: Any) -> str:
    return said(await stream(client, text, **params))


async def raw(http: httpx.AsyncClient, text: str, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "stream": True, "messages": user(text), **fields}
    return await http.post(CHAT, json=body)


def events(response: httpx.Response) -> list[str]:
    return response.content.decode().split("\n\n")[:-1]


async def last_call(http: httpx.AsyncClient, contains: str) -> dict[str, Any]:
    response = await http.get("/_double/calls", params={"contains": contains, "ended": "1", "wait": "5"})
    calls = response.json()["calls"]
    assert calls, f"no ended call with {contains}"
    return dict(calls[-1])


class TestTheWire:
    async def test_a_stream_is_byte_for_byte_what_groq_sends(self, http: httpx.AsyncClient) -> None:
        response = await raw(http, "[[say=a <b>]]")
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["transfer-encoding"] == "chunked"
        first = json.loads(events(response)[0].removeprefix("data: "))
        base = (
            f'{{"id":"{first["id"]}","object":"chat.completion.chunk","created":{first["created"]},'
            f'"model":"{MODEL}","system_fingerprint":"{first["system_fingerprint"]}",'
        )
        usage = (
            '{"queue_time":0.001,"prompt_tokens":8,"prompt_time":0.002,"completion_tokens":2,'
            '"completion_time":0.0,"total_tokens":10,"total_time":0.002}'
        )
        request_id = first["x_groq"]["id"]
        seed = first["x_groq"]["seed"]
        blank = '"logprobs":null,"finish_reason":null}]'
        assert events(response) == [
            f'data: {base}"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},{blank},'
            f'"x_groq":{{"id":"{request_id}","seed":{seed}}}}}',
            f'data: {base}"choices":[{{"index":0,"delta":{{"content":"a"}},{blank}}}',
            f'data: {base}"choices":[{{"index":0,"delta":{{"content":" \\u003cb\\u003e"}},{blank}}}',
            f'data: {base}"choices":[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}],'
            f'"x_groq":{{"id":"{request_id}","usage":{usage}}},"usage":{usage}}}',
            "data: [DONE]",
        ]

    async def test_the_extra_usage_chunk_comes_only_when_asked_for(self, client: groq.AsyncGroq) -> None:
        asked = await stream(client, "hi", extra_body={"stream_options": {"include_usage": True}})
        assert asked[-1].choices == []
        assert asked[-1].service_tier == "on_demand"
        assert asked[-1].usage == asked[-2].usage
        assert all(chunk.choices for chunk in await stream(client, "hi"))

    async def test_usage_counts_every_token_sent_with_the_reasoning(self, client: groq.AsyncGroq) -> None:
        chunks = await stream(client, "[[tokens=30 reasoning=12 cached=64]]")
        usage = chunks[-1].x_groq.usage
        assert usage.completion_tokens == 42
        assert usage.total_tokens == usage.prompt_tokens + 42
        assert usage.completion_tokens_details.reasoning_tokens == 12
        assert usage.prompt_tokens_details.cached_tokens == 64

    async def test_gpt_oss_reasons_on_the_analysis_channel_first(self, client: groq.AsyncGroq) -> None:
        chunks = await stream(client, "[[tokens=3 reasoning=4]]")
        deltas = [chunk.choices[0].delta for chunk in chunks[1:-1]]
        assert [getattr(delta, "channel", None) for delta in deltas] == ["analysis"] * 4 + [None] * 3
        assert "".join(delta.reasoning or "" for delta in deltas) == expected_text(4, -1)

    async def test_qwen_reasons_in_think_tags_unless_parsed(self, client: groq.AsyncGroq) -> None:
        text = await ask(client, "[[tokens=3 reasoning=4]]", model=QWEN)
        assert text == f"<think>{expected_text(4, -1)}</think>{expected_text(3)}"
        parsed = await stream(client, "[[tokens=3 reasoning=4]]", model=QWEN, reasoning_format="parsed")
        assert said(parsed) == expected_text(3)
        assert parsed[1].choices[0].delta.reasoning

    async def test_hidden_reasoning_is_billed_but_not_sent(self, client: groq.AsyncGroq) -> None:
        chunks = await stream(client, "[[tokens=3 reasoning=4]]", include_reasoning=False)
        assert not any(chunk.choices[0].delta.reasoning for chunk in chunks)
        assert chunks[-1].usage.completion_tokens == 7

    async def test_a_tool_call_is_one_whole_delta_and_its_result_gets_an_answer(
        self, client: groq.AsyncGroq
    ) -> None:
        chunks = await stream(client, '[[tool=get_weather args={"city":"Paris"}]]')
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert [(call.index, call.function.name, call.function.arguments) for call in calls] == [
            (0, "get_weather", '{"city":"Paris"}')
        ]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        call = {"id": calls[0].id, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        history = [
            *user("[[tool=get_weather]] weather?"),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": calls[0].id, "content": "rain"},
        ]
        assert "demo" in await ask(client, "", messages=history)

    async def test_an_answer_without_stream_is_the_same_text(self, client: groq.AsyncGroq) -> None:
        answer = await create(client, user("[[tokens=40 reasoning=2]]"), max_completion_tokens=100)
        assert answer.choices[0].message.content == expected_text(40)
        assert answer.choices[0].message.reasoning == expected_text(2, -1)
        assert answer.usage.completion_tokens == 42

    async def test_success_carries_the_quota_and_request_id_headers(self, http: httpx.AsyncClient) -> None:
        headers = (await raw(http, "hi")).headers
        for name in ("limit", "remaining", "reset"):
            assert headers[f"x-ratelimit-{name}-requests"]
            assert headers[f"x-ratelimit-{name}-tokens"]
        assert headers["x-request-id"].startswith("req_")

    async def test_models_are_listed_and_described(self, client: groq.AsyncGroq) -> None:
        listed = await client.models.list()
        assert MODEL in [model.id for model in listed.data]
        assert (await client.models.retrieve(QWEN)).id == QWEN
        with pytest.raises(groq.NotFoundError):
            await client.models.retrieve("nobody/nothing")


class TestTheText:
    def test_shorter_texts_are_the_beginning_of_longer_ones(self) -> None:
        assert expected_tokens(500)[:100] == expected_tokens(100)
        assert expected_text(50, 1) != expected_text(50, 2)
        assert any(ord(letter) > 0xFFFF for letter in expected_text(500))

    async def test_the_text_arrives_exactly_one_token_per_event(self, client: groq.AsyncGroq) -> None:
        chunks = await stream(client, "please [[tokens=500 seed=7]] thanks")
        assert [chunk.choices[0].delta.content for chunk in chunks[1:-1]] == list(expected_tokens(500, 7))

    async def test_the_demo_answer_says_what_it_is_and_is_the_same_each_time(
        self, client: groq.AsyncGroq
    ) -> None:
        first = await ask(client, "What is a monad?")
        assert "demo model" in first
        assert "> What is a monad?" in first
        assert first == await ask(client, "What is a monad?")

    async def test_echo_shows_the_context_as_received(self, client: groq.AsyncGroq) -> None:
        messages = [{"role": "system", "content": "Be kind."}, *user("[[echo]] ünïcode 😀\n")]
        assert json.loads(await ask(client, "", messages=messages)) == messages

    async def test_say_may_hold_spaces_or_be_a_json_string(self, client: groq.AsyncGroq) -> None:
        assert await ask(client, "[[say=two  words]]") == "two  words"
        assert await ask(client, '[[say="a\\nb\\u2028c"]]') == "a\nb\u2028c"

    def test_brackets_that_are_no_directive_are_left_alone(self) -> None:
        assert directives("see [[Main Page]] and [[a=b]]") == {}
        assert directives("[[tokens=5]] x [[rate=2 echo]]") == {"tokens": "5", "rate": "2", "echo": ""}

    async def test_the_bound_of_the_request_cuts_the_answer(self, client: groq.AsyncGroq) -> None:
        chunks = await stream(client, "[[tokens=50 reasoning=8]]", max_completion_tokens=20)
        assert said(chunks) == expected_text(12)
        assert chunks[-1].choices[0].finish_reason == "length"

    async def test_without_a_bound_an_answer_ends_at_2048_tokens(self, client: groq.AsyncGroq) -> None:
        chunks = await stream(client, "[[tokens=3000]]", max_completion_tokens=groq.NOT_GIVEN)
        assert chunks[-1].usage.completion_tokens == 2048

    async def test_vary_gives_another_text_for_every_attempt(self, client: groq.AsyncGroq) -> None:
        message = "[[tokens=20 vary]] once more"
        assert [await ask(client, message) for _ in range(2)] == [expected_text(20), expected_text(20, 1)]


class TestPrefill:
    @pytest.mark.parametrize("kept", [1, 25, 133, 140])
    async def test_a_model_that_continues_sends_only_what_follows(
        self, client: groq.AsyncGroq, double: Double, kept: int
    ) -> None:
        double.configure(double.settings.changed({"continues": [MODEL]}))
        text = expected_text(100)
        messages = [*user("[[tokens=100]]"), {"role": "assistant", "content": text[:kept]}]
        assert await ask(client, "", messages=messages) == text[kept:]

    async def test_the_directive_makes_any_model_continue(self, client: groq.AsyncGroq) -> None:
        text = expected_text(60)
        messages = [*user("[[tokens=60 continue]]"), {"role": "assistant", "content": text[:50]}]
        assert await ask(client, "", messages=messages) == text[50:]

    async def test_other_models_answer_afresh(self, client: groq.AsyncGroq) -> None:
        messages = [*user("[[tokens=60]]"), {"role": "assistant", "content": expected_text(60)[:50]}]
        assert await ask(client, "", messages=messages) == expected_text(60)


REFUSED: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("an unknown model", {"model": "nobody/nothing"}, 404, "model_not_found"),
    ("a dead model", {"model": "llama3-70b-8192"}, 400, "model_decommissioned"),
    ("two answers", {"n": 2}, 400, None),
    ("a bound above the model's", {"max_completion_tokens": 65_537}, 400, None),
    ("a bound of nothing", {"max_completion_tokens": 0}, 400, None),
    ("an effort the model lacks", {"reasoning_effort": "none"}, 400, None),
    ("both ways to ask for reasoning", {"reasoning_format": "parsed", "include_reasoning": True}, 400, None),
    (
        "raw reasoning with JSON",
        {"reasoning_format": "raw", "response_format": {"type": "json_object"}},
        400,
        None,
    ),
    ("an unknown parameter", {"frobnicate": 1}, 400, None),
    ("metadata", {"metadata": {"a": "b"}}, 400, None),
    ("too hot", {"temperature": 2.5}, 400, None),
    ("five stops", {"stop": list("abcde")}, 400, None),
    ("stream options without a stream", {"stream_options": {"include_usage": True}}, 400, None),
    ("no messages", {"messages": []}, 400, None),
    ("an unknown role", {"messages": [{"role": "bot", "content": "x"}]}, 400, None),
    ("an id on a message", {"messages": [{"role": "user", "content": "x", "id": "m1"}]}, 400, None),
    ("a name on a message", {"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, 400, None),
    ("a message without content", {"messages": [{"role": "user"}]}, 400, None),
    (
        "parts for a text model",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        400,
        None,
    ),
    (
        "an orphan tool result",
        {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]},
        400,
        None,
    ),
    ("a context beyond the window", {"messages": user("x" * 600_000)}, 400, "context_length_exceeded"),
]


class TestStrictness:
    @pytest.mark.parametrize(
        ("fields", "status", "code"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
    )
    async def test_what_groq_refuses_is_refused(
        self, http: httpx.AsyncClient, fields: dict[str, Any], status: int, code: str | None
    ) -> None:
        response = await http.post(CHAT, json={"model": MODEL, "messages": user("hi"), **fields})
        assert response.status_code == status
        assert response.json()["error"]["message"]
        assert response.json()["error"].get("code") == code

    async def test_a_foreign_property_is_named_in_groqs_words(self, http: httpx.AsyncClient) -> None:
        messages = [*user("a"), {"role": "assistant", "content": "b", "reasoning_content": "c"}, *user("d")]
        error = (await http.post(CHAT, json={"model": MODEL, "messages": messages})).json()["error"]
        assert error["message"] == (
            "'messages.1' : for 'role:assistant' the following must be satisfied"
            "[('messages.1' : property 'reasoning_content' is unsupported)]"
        )

    async def test_a_body_that_is_no_json_is_refused(self, http: httpx.AsyncClient) -> None:
        assert (await http.post(CHAT, content=b"{")).status_code == 400

    async def test_unknown_urls_are_said_to_be_so(self, http: httpx.AsyncClient) -> None:
        response = await http.get("/openai/v1/nothing")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")

    async def test_a_key_is_asked_for_when_so_configured(
        self, http: httpx.AsyncClient, client: groq.AsyncGroq, double: Double
    ) -> None:
        double.configure(double.settings.changed({"require_key": True}))
        assert (await raw(http, "hi")).json()["error"]["code"] == "invalid_api_key"
        assert await ask(client, "[[say=in]]") == "in"
        double.configure(double.settings.changed({"api_keys": ["another"]}))
        with pytest.raises(groq.AuthenticationError):
            await ask(client, "hi")


STATUSES = {
    "400": 400, "model_decommissioned": 400, "context_length_exceeded": 400, "tool_use_failed": 400,
    "json_validate_failed": 400, "output_parse_failed": 400, "blocked_api_access": 400,
    "unsupported_property": 400, "401": 401, "403": 403, "404": 404, "unknown_url": 404, "413": 413,
    "413_bytes": 413, "413_otpm": 413, "422": 422, "424": 424, "429": 429, "429_rpm": 429, "498": 498,
    "500": 500, "502": 502, "503": 503, "524": 524,
}  # fmt: skip


class TestRefusalsOnDemand:
    @pytest.mark.parametrize(("kind", "status"), STATUSES.items())
    async def test_a_directive_asks_for_any_error(
        self, client: groq.AsyncGroq, kind: str, status: int
    ) -> None:
        with pytest.raises(groq.APIStatusError) as caught:
            await ask(client, f"[[fault={kind}]]")
        assert caught.value.status_code == status
        if not kind.isdigit() and "_" in kind and not kind[0].isdigit():
            assert f"'code': '{kind}'" in str(caught.value) or kind == "unsupported_property"

    @pytest.mark.parametrize("kind", ["rpm", "rpd", "tpm", "tpd", "itpm", "otpm"])
    async def test_only_the_message_of_a_429_tells_which_limit_it_was(
        self, http: httpx.AsyncClient, kind: str
    ) -> None:
        response = await raw(http, f"[[fault=429_{kind} retry_after=1.5]]")
        error = response.json()["error"]
        assert f"({kind.upper()}): Limit " in error["message"]
        assert "Please try again in 1.5s." in error["message"]
        assert error["code"] == "rate_limit_exceeded"
        assert float(response.headers["retry-after"]) == 1.5
        about_requests = kind.startswith("r")
        assert error["type"] == ("requests" if about_requests else "tokens")
        assert ("x-ratelimit-remaining-tokens" in response.headers) is not about_requests

    async def test_a_fault_limited_to_attempts_lets_the_next_one_through(
        self, client: groq.AsyncGroq
    ) -> None:
        message = "[[tokens=5 fault=503 times=2]] retry me"
        for _ in range(2):
            with pytest.raises(groq.InternalServerError):
                await ask(client, message)
        assert await ask(client, message) == expected_text(5)

    async def test_queued_faults_choose_by_model_and_by_text(
        self, http: httpx.AsyncClient, client: groq.AsyncGroq
    ) -> None:
        faults = [{"kind": "498", "model": QWEN}, {"kind": "503", "contains": "needle", "times": 2}]
        assert len((await http.post("/_double/faults", json=faults)).json()["faults"]) == 2
        assert await ask(client, "[[say=fine]]") == "fine"
        for _ in range(2):
            with pytest.raises(groq.InternalServerError):
                await ask(client, "a needle")
        assert await ask(client, "[[say=needle]]") == "needle"
        with pytest.raises(groq.APIStatusError, match="498"):
            await ask(client, "x", model=QWEN)
        assert (await http.get("/_double/faults")).json() == {"faults": []}

    async def test_an_unknown_fault_is_refused_with_the_list_of_them(self, http: httpx.AsyncClient) -> None:
        response = await http.post("/_double/faults", json={"kind": "earthquake"})
        assert response.status_code == 400
        assert "error_event" in response.json()["error"]["message"]
        assert "earthquake" in (await raw(http, "[[fault=earthquake]]")).json()["error"]["message"]


async def heard(client: groq.AsyncGroq, text: str) -> tuple[str, Exception | None]:
    """What arrived, and the exception that ended it."""
    chunks = []
    try:
        async for chunk in await create(client, user(text), stream=True, max_completion_tokens=1000):
            chunks.append(chunk)
    except (groq.GroqError, httpx.TransportError, ValueError) as error:
        return said(chunks), error
    return said(chunks), None


class TestBrokenConnections:
    @pytest.mark.parametrize("kind", ["drop", "drop_rst"])
    async def test_a_connection_closed_before_any_byte(self, client: groq.AsyncGroq, kind: str) -> None:
        with pytest.raises(groq.APIConnectionError):
            await ask(client, f"[[fault={kind}]]")

    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("cut", httpx.RemoteProtocolError),
            ("cut_inside", httpx.RemoteProtocolError),
            ("rst", httpx.ReadError),
        ],
    )
    async def test_a_torn_connection_comes_after_the_tokens_before_it(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient, kind: str, error: type[Exception]
    ) -> None:
        text, caught = await heard(client, f"[[tokens=50 fault={kind} after=10]] torn off")
        assert (text, type(caught)) == (expected_text(10), error)
        call = await last_call(http, f"fault={kind} after=10")
        assert (call["end"], call["tokens"], call["fault"]) == ("faulted", 10, kind)

    @pytest.mark.parametrize("kind", ["hang", "silence", "stall"])
    async def test_silence_lasts_until_the_client_gives_up(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient, kind: str
    ) -> None:
        with pytest.raises((groq.APITimeoutError, httpx.ReadTimeout)):
            await ask(client.with_options(timeout=0.2), f"[[tokens=9 fault={kind} after=4]] quiet")
        call = await last_call(http, f"fault={kind} after=4")
        assert (call["end"], call["tokens"]) == ("client_closed", 4 if kind == "stall" else 0)

    async def test_a_stall_may_end(self, client: groq.AsyncGroq) -> None:
        begun = time.monotonic()
        assert await ask(client, "[[tokens=9 fault=stall after=4 seconds=0.3]]") == expected_text(9)
        assert time.monotonic() - begun >= 0.3

    async def test_the_connection_can_break_before_the_role_chunk(self, http: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await raw(http, "[[fault=cut after=-1]]")
        response = await raw(http, "[[fault=eof after=-1]]")
        assert (response.status_code, response.content) == (200, b"")

    async def test_answers_without_stream_break_too(self, http: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await raw(http, "[[fault=cut]]", stream=False)
        torn = await raw(http, "[[fault=torn]]", stream=False)
        with pytest.raises(json.JSONDecodeError):
            torn.json()
        assert (await raw(http, "[[fault=error_event]]", stream=False)).status_code == 400


class TestBrokenStreams:
    @pytest.mark.parametrize("kind", ["eof", "done", "x_groq_error"])
    async def test_an_end_without_finish_reason_raises_nothing_in_the_sdk(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient, kind: str
    ) -> None:
        chunks = await stream(client, f"[[tokens=50 fault={kind} after=10]]")
        assert said(chunks) == expected_text(10)
        assert not any(chunk.choices[0].finish_reason for chunk in chunks)
        sent = events(await raw(http, f"[[tokens=50 fault={kind} after=10]]"))
        assert (sent[-1] == "data: [DONE]") is (kind != "eof")
        if kind == "x_groq_error":
            assert json.loads(sent[-2].removeprefix("data: "))["x_groq"]["error"]

    @pytest.mark.parametrize("kind", ["error_event", "error_data"])
    async def test_an_error_inside_the_stream(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient, kind: str
    ) -> None:
        text, caught = await heard(client, f"[[tokens=50 fault={kind} after=10 code=503]]")
        assert text == expected_text(10)
        assert type(caught) is groq.APIError
        last = events(await raw(http, f"[[fault={kind} code=429_tpm]]"))[-1]
        assert last.startswith("event: error\ndata: {" if kind == "error_event" else 'data: {"error":')
        assert '"status_code":429' in last

    async def test_a_torn_event_is_no_json(self, client: groq.AsyncGroq) -> None:
        _, caught = await heard(client, "[[tokens=50 fault=torn]]")
        assert isinstance(caught, json.JSONDecodeError)

    async def test_garbage_is_no_text(self, client: groq.AsyncGroq) -> None:
        _, caught = await heard(client, "[[tokens=50 fault=garbage]]")
        assert isinstance(caught, UnicodeDecodeError)

    async def test_an_empty_answer_has_only_thoughts(self, client: groq.AsyncGroq) -> None:
        chunks = await stream(client, "[[fault=empty]]")
        assert said(chunks) == ""
        assert chunks[-1].choices[0].finish_reason == "length"
        assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 20

    async def test_usage_may_be_in_one_place_or_in_none(self, client: groq.AsyncGroq) -> None:
        old = (await stream(client, "[[fault=old_usage]]"))[-1]
        assert old.x_groq.usage
        assert old.usage is None
        none = (await stream(client, "[[fault=no_usage]]"))[-1]
        assert none.x_groq.usage is None
        assert none.usage is None


class TestOddButLegalStreams:
    @pytest.mark.parametrize("kind", ["split", "split size=1", "split size=100 pause=0.001", "drifting_ids"])
    async def test_the_text_is_the_same_however_it_is_cut(self, client: groq.AsyncGroq, kind: str) -> None:
        assert await ask(client, f"[[tokens=12 fault={kind}]]") == expected_text(12)

    async def test_a_trickle_is_slow_and_whole(self, client: groq.AsyncGroq) -> None:
        assert await ask(client, "[[tokens=2 fault=trickle size=9 pause=0.001]]") == expected_text(2)

    async def test_line_separators_are_raw_inside_one_event(self, http: httpx.AsyncClient) -> None:
        response = await raw(http, "[[tokens=3 fault=separators after=1]]")
        assert "\u2028b\u2029c\u0085d" in response.content.decode()
        token = json.loads(events(response)[2].removeprefix("data: "))["choices"][0]["delta"]["content"]
        assert token.splitlines() == [" a", "b", "c", "d", "e", "f", "g", "h", "i"]

    async def test_one_token_may_be_huge(self, client: groq.AsyncGroq) -> None:
        assert len(await ask(client, "[[tokens=9 fault=huge size=200000]]")) > 200_000

    async def test_a_tool_call_may_come_in_parts(self, client: groq.AsyncGroq) -> None:
        for kind in ("tool_parts", "tool_without_id"):
            chunks = await stream(client, f"[[tool=f fault={kind}]]")
            calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
            assert "".join(call.function.arguments for call in calls) == '{"location":"Berlin"}'
            assert bool(calls[0].id) is (kind == "tool_parts")


class TestPace:
    async def test_tokens_keep_to_the_schedule(self, client: groq.AsyncGroq) -> None:
        begun = time.monotonic()
        await ask(client, "[[tokens=41 rate=100 first_delay=0.1]]")
        assert 0.5 <= time.monotonic() - begun < 1.5

    async def test_several_tokens_share_a_write(self, http: httpx.AsyncClient) -> None:
        body = {"model": MODEL, "stream": True, "messages": user("[[tokens=20 rate=50 chunk=5]]")}
        async with http.stream("POST", CHAT, json=body) as response:
            reads = [part.count(b'"content"') async for part in response.aiter_raw()]
        assert 5 in reads
        assert sum(reads) == 21

    async def test_a_client_that_leaves_is_noticed_at_once(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient
    ) -> None:
        chunks = await create(client, user("[[tokens=1000 rate=20]] leaving"), stream=True)
        async for chunk in chunks:
            if chunk.choices[0].delta.content == expected_tokens(3)[2]:
                break
        left = time.time()
        await chunks.close()
        call = await last_call(http, "leaving")
        assert call["end"] == "client_closed"
        assert 3 <= call["tokens"] <= 5
        assert call["ended"] - left < 0.5


class TestRecords:
    async def test_a_call_is_recorded_with_what_was_asked(
        self, client: groq.AsyncGroq, http: httpx.AsyncClient
    ) -> None:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await ask(client, "[[tokens=5]] record me", temperature=0.5, extra_headers={"traceparent": parent})
        call = await last_call(http, "record me")
        assert call["messages"] == user("[[tokens=5]] record me")
        assert call["params"] == {"max_completion_tokens": 10_000, "stream": True, "temperature": 0.5}
        assert call["headers"]["traceparent"] == parent
        assert "authorization" not in call["headers"]
        assert (call["model"], call["end"], call["tokens"], call["status"]) == (MODEL, "finished", 5, 200)
        assert call["started"] <= call["first_token"] <= call["ended"]
        assert (await http.get(f"/_double/calls/{call['number']}")).json() == call

    async def test_refused_calls_are_recorded_too(self, http: httpx.AsyncClient) -> None:
        await raw(http, "refuse me", n=3)
        call = await last_call(http, "refuse me")
        assert (call["end"], call["status"]) == ("refused", 400)

    async def test_old_records_make_room(self) -> None:
        double = create_double(rate=0)
        double.calls._kept = 3
        with running(double) as url:
            async with httpx.AsyncClient(base_url=url) as http:
                for number in range(5):
                    await raw(http, f"[[say=x]] {number}")
                assert [call["number"] for call in (await http.get("/_double/calls")).json()["calls"]] == [
                    3,
                    4,
                    5,
                ]
                assert (await http.get("/_double/health")).json()["calls"] == 5
                await http.delete("/_double/calls")
                assert (await http.get("/_double/calls")).json() == {"calls": []}

    async def test_settings_change_while_serving_and_wrong_ones_do_not(self, http: httpx.AsyncClient) -> None:
        changed = await http.post("/_double/settings", json={"rate": 9, "models": ["my/model", MODEL]})
        assert changed.json()["rate"] == 9
        assert (await raw(http, "[[say=x]]", model="my/model")).status_code == 200
        assert (await raw(http, "x", model=QWEN)).status_code == 404
        wishes: list[object] = [
            {"rate": -1},
            {"speed": 1},
            {"limits": {"*": {"X": 1}}},
            {"require_key": 1},
            [],
        ]
        for wrong in wishes:
            assert (await http.post("/_double/settings", json=wrong)).status_code == 400


class TestLimits:
    def test_durations_are_written_as_go_does(self) -> None:
        seconds = [179.56, 0.185, 5011.0, 0.659999999, 7.66, 60, 0, 0.000012]
        written = ["2m59.56s", "185ms", "1h23m31s", "659.999999ms", "7.66s", "1m0s", "0s", "12µs"]
        assert [go_duration(item) for item in seconds] == written

    def test_buckets_refill_continuously_and_unused_tokens_come_back(self) -> None:
        now = 0.0
        limits = Limits(clock=lambda: now)
        limits.configure({"*": {"TPM": 6000}})
        reservation = limits.admit("m", 1000, 4000)
        assert reservation.headers["x-ratelimit-remaining-tokens"] == "1000"
        with pytest.raises(Refusal, match=r"Used 5000, Requested 1500\. Please try again in 5s\.") as caught:
            limits.admit("m", 500, 1000)
        assert (caught.value.status, caught.value.headers["retry-after"]) == (429, "5")
        now = 5.0
        limits.admit("m", 500, 1000)
        reservation.settle(1000, 100)
        limits.admit("m", 900, 3000)

    def test_a_request_above_a_minutes_tokens_is_too_large(self) -> None:
        limits = Limits()
        limits.configure({"m": {"TPM": 8000}})
        with pytest.raises(Refusal, match=r"Request too large .* Limit 8000, Requested 10494") as caught:
            limits.admit("m", 494, 10_000)
        assert caught.value.status == 413
        assert limits.admit("another", 494, 10_000)

    async def test_limits_are_per_model_and_answer_429(self, client: groq.AsyncGroq, double: Double) -> None:
        double.configure(double.settings.changed({"limits": {MODEL: {"RPM": 2, "RPD": 100}}}))
        for _ in range(2):
            await ask(client, "[[say=x]]")
        with pytest.raises(groq.RateLimitError) as caught:
            await ask(client, "[[say=x]]")
        assert "on requests per minute (RPM): Limit 2, Used 2, Requested 1." in str(caught.value)
        headers = caught.value.response.headers
        assert headers["x-ratelimit-limit-requests"] == "100"
        assert "x-ratelimit-remaining-tokens" not in headers
        assert await ask(client, "[[say=x]]", model=QWEN) == "x"


def start_process(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "service.double", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("double ready on "), line
    return process, line.split()[3]


class TestTheProcess:
    async def test_it_ends_quickly_and_cleanly_on_sigterm_with_streams_open(self) -> None:
        process, url = start_process("--port", "0")
        body = {"model": MODEL, "stream": True, "messages": user("[[tokens=2000 rate=5]]")}
        with process:
            async with httpx.AsyncClient(base_url=url) as http, http.stream("POST", CHAT, json=body):
                process.send_signal(signal.SIGTERM)
                assert process.wait(3) == 0

    async def test_it_serves_on_a_unix_socket_and_removes_it(self, tmp_path: Path) -> None:
        path = tmp_path / "double.sock"
        process, _ = start_process("--uds", str(path), "--rate", "0")
        with process:
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(base_url="http://double", transport=transport) as http:
                assert len(events(await raw(http, "[[tokens=5]]"))) == 8
            process.terminate()
            assert process.wait(3) == 0
        assert not path.exists()

    def test_it_ends_with_a_parent_that_was_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "double.sock"
        parent = (
            "import os, signal, subprocess, sys\n"
            f"command = [sys.executable, '-m', 'service.double', '--uds', {str(path)!r}]\n"
            "command += ['--parent-pid', str(os.getpid())]\n"
            "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
            "child.stdout.readline()\n"
            "print(child.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, timeout=20)
        deadline = time.monotonic() + 5
        while path.exists() and time.monotonic() < deadline:
            os.sched_yield()
        assert not path.exists(), f"{done.stdout.strip()} is an orphan"


def test_every_fault_is_described() -> None:
    assert faults.__doc__ is not None
    words = set(re.findall(r"[a-z0-9_]+", faults.__doc__))
    assert {kind for kind in faults.KINDS if kind not in words} == set()
