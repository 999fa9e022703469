"""OpenAI's Responses through OpenAI's SDK for node and through LangChain, both unmodified."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.double import Double, expected_text
from tests.support.node import Node
from tests.support.service import Served

MODEL = "openai/gpt-oss-120b"
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}


async def test_node_reads_a_response_raw_and_on(served: Served, node: Node) -> None:
    seen = await node.play("responses", "raw", url=served.url, message="[[tokens=60]]")
    assert seen == {"text": expected_text(60), "same": True}


@pytest.mark.parametrize(
    ("message", "options", "status", "kinds"),
    [
        ("[[tokens=60]]", {}, "completed", ["message"]),
        (
            "[[tokens=60 reasoning=5]]",
            {"reasoning": {"summary": "auto"}},
            "completed",
            ["reasoning", "message"],
        ),
        ("[[tool=weather]]", {"tools": [TOOL]}, "completed", ["function_call"]),
        ("[[tokens=60]]", {"max_output_tokens": 20}, "incomplete", ["message"]),
    ],
)
async def test_node_s_checking_helper_finds_nothing_wrong(
    served: Served, node: Node, message: str, options: Any, status: str, kinds: list[str]
) -> None:
    final = await node.play("responses", "helper", url=served.url, message=message, **options)
    assert "error" not in final, final
    assert (final["status"], final["kinds"]) == (status, kinds)
    assert final["deltas"] == final["text"] == final["replayed"]
    if "message" in kinds:
        assert final["text"] == expected_text(20 if options.get("max_output_tokens") else 60)


async def test_node_s_helper_is_told_of_a_failure(served: Served, node: Node) -> None:
    final = await node.play("responses", "helper", url=served.url, message="[[tokens=60 fault=cut after=30]]")
    assert "cut off" in final["error"]


async def test_node_chains_three_and_cancels(served: Served, node: Node) -> None:
    assert await node.play("responses", "chain", url=served.url) == {
        "said": ["one", "two", "three"],
        "status": "cancelled",
    }


async def test_langchain_streams_and_chains_by_itself(served: Served, double: Double) -> None:
    model = ChatOpenAI(
        model=MODEL,
        base_url=f"{served.url}/v1",
        api_key=SecretStr("none"),
        max_retries=0,
        use_responses_api=True,
        use_previous_response_id=True,
    )
    whole: Any = AIMessageChunk(content="")
    async for chunk in model.astream([HumanMessage("[[tokens=60]]")]):
        whole += chunk
    assert whole.text == expected_text(60)
    assert whole.response_metadata["id"].startswith("resp_")
    assert whole.usage_metadata["output_tokens"] == 60
    answer = await model.ainvoke([HumanMessage("[[tokens=60]]"), whole, HumanMessage("[[say=two]]")])
    assert answer.text == "two"
    sent: Any = double.calls.find()[-1].describe()["messages"]
    assert [message["content"] for message in sent[1:]] == ["[[tokens=60]]", expected_text(60), "[[say=two]]"]
    assert json.dumps(sent).count("[[say=two]]") == 1
    await model.root_async_client.close()
