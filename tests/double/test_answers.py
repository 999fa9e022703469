"""The double answers as Groq does: bytes, text, prefill, strictness.

Every test talks HTTP to a real server. Waits are bounded by the double itself (`calls?wait=`).
"""

from __future__ import annotations

import json
from typing import Any

import groq
import httpx
import pytest

from tests.double import Double, expected_text, expected_tokens
from tests.double.asking import (
    CHAT,
    MODEL,
    QWEN,
    ask,
    create,
    events,
    raw,
    said,
    stream,
    user,
)
from tests.double.script import directives


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
