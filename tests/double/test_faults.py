"""The double fails as Groq does: refusals, broken connections, broken streams.

Every test talks HTTP to a real server. Waits are bounded by the double itself (`calls?wait=`).
"""

from __future__ import annotations

import json
import time

import groq
import httpx
import pytest

from tests.double import expected_text
from tests.double.asking import (
    QWEN,
    ask,
    events,
    heard,
    last_call,
    raw,
    said,
    stream,
)

STATUSES = {
    "400": 400,
    "model_decommissioned": 400,
    "context_length_exceeded": 400,
    "tool_use_failed": 400,
    "json_validate_failed": 400,
    "output_parse_failed": 400,
    "blocked_api_access": 400,
    "unsupported_property": 400,
    "401": 401,
    "403": 403,
    "404": 404,
    "unknown_url": 404,
    "413": 413,
    "413_bytes": 413,
    "413_otpm": 413,
    "422": 422,
    "424": 424,
    "429": 429,
    "429_rpm": 429,
    "498": 498,
    "500": 500,
    "502": 502,
    "503": 503,
    "524": 524,
}


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
            await ask(client.with_options(timeout=1.5), f"[[tokens=9 fault={kind} after=4]] quiet")
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
