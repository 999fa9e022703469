"""A tool call or JSON that the model got wrong: Groq's words for who knows them, a sentence for others."""

from __future__ import annotations

from typing import Any

import groq
import openai
import pytest

from tests.clients.conftest import Opened
from tests.clients.test_openai_sdks import read
from tests.conftest import Start
from tests.double import expected_text
from tests.double.refusals import BY_NAME
from tests.support.dialects import datas
from tests.support.service import Served

MODEL = "openai/gpt-oss-120b"
SENTENCES = {
    "tool_use_failed": "The model made a tool call that is not valid (tool_use_failed).",
    "json_validate_failed": "The model made JSON that is not valid (json_validate_failed).",
    "output_parse_failed": "The model's answer could not be read (output_parse_failed).",
}
CODES = pytest.mark.parametrize("code", SENTENCES)
ROOTS = pytest.mark.parametrize("root", ["/v1", "/openai/v1"])


def asking(wish: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": wish}]}


def as_groq_words_it(code: str) -> dict[str, Any]:
    return BY_NAME[code](MODEL).error


@CODES
@ROOTS
@pytest.mark.parametrize("streamed", [False, True])
async def test_before_the_stream_it_is_groq_s_400(
    served: Served, code: str, root: str, streamed: bool
) -> None:
    body = {**asking(f"[[fault={code}]]"), "stream": streamed}
    answer = await served.client.post(f"{root}/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"param": None, **as_groq_words_it(code)}}


@CODES
async def test_in_mid_stream_it_is_groq_s_error_event_where_its_clients_are(
    served: Served, code: str
) -> None:
    body = {**asking(f"[[tokens=9 fault=error_event after=4 code={code}]]"), "stream": True}
    answer = await served.client.post("/openai/v1/chat/completions", json=body)
    assert "\n\nevent: error\ndata: {" in answer.text
    told = datas(answer.text)[-1]["error"]
    assert told == {"param": None, **as_groq_words_it(code), "status_code": 400}
    assert "[DONE]" not in answer.text
    ours = await served.client.post("/v1/chat/completions", json=body)
    assert "event:" not in ours.text
    assert datas(ours.text)[-1] == {"error": {"param": None, **as_groq_words_it(code)}}


@CODES
async def test_both_sdks_raise_it_with_code_and_failed_generation(
    served: Served, opened: Opened, code: str
) -> None:
    clients: list[tuple[Any, Any]] = [
        (openai, opened(openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0))),
        (groq, opened(groq.AsyncGroq(base_url=served.url, api_key="none", max_retries=0))),
    ]
    expected = as_groq_words_it(code)
    for library, client in clients:
        with pytest.raises(library.BadRequestError) as refused:
            await client.chat.completions.create(**asking(f"[[fault={code}]]"))
        told = refused.value.body if library is openai else refused.value.body["error"]
        assert (told["code"], told["failed_generation"]) == (code, expected["failed_generation"])
        stream = await client.chat.completions.create(
            **asking(f"[[tokens=9 fault=error_event after=4 code={code}]]"), stream=True
        )
        seen: list[str] = []
        with pytest.raises(library.APIError) as broken:
            await read(stream, seen)
        assert "".join(seen) == expected_text(4)
        assert broken.value.body["failed_generation"] == expected["failed_generation"]
        assert broken.value.message == expected["message"]


@CODES
async def test_ours_says_which_it_was_in_the_sentence(served: Served, code: str) -> None:
    wish = f"[[tokens=9 fault=error_event after=4 code={code}]]"
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": wish})
    told = datas(answer.text)[-1]
    del told["usage"]
    assert told == {"code": "upstream_rejected", "message": SENTENCES[code], "retryable": True}
    turn = (await served.client.get(f"/v1/sessions/s/turns/{answer.headers['x-turn-id']}")).json()
    assert turn["error"] == told
    problem = (await served.client.post("/chat", json={"user_query": f"[[fault={code}]]"})).json()
    assert (problem["code"], problem["detail"]) == ("upstream_rejected", SENTENCES[code])


async def test_it_is_tried_again_before_anybody_is_told(start: Start) -> None:
    async with start(max_attempts=2) as served:
        body = asking("[[fault=tool_use_failed times=1]] [[say=fine]]")
        answer = await served.client.post("/openai/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "fine"
