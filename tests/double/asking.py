"""Asking the double, and what was heard of the answer."""

from __future__ import annotations

from typing import Any

import groq
import httpx

MODEL = "openai/gpt-oss-120b"
QWEN = "qwen/qwen3.8-27b"
CHAT = "/openai/v1/chat/completions"


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


async def heard(client: groq.AsyncGroq, text: str) -> tuple[str, Exception | None]:
    """What arrived, and the exception that ended it."""
    chunks = []
    try:
        async for chunk in await create(client, user(text), stream=True, max_completion_tokens=1000):
            chunks.append(chunk)
    except (groq.GroqError, httpx.TransportError, ValueError) as error:
        return said(chunks), error
    return said(chunks), None
