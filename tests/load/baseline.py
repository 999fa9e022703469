"""The obvious implementation, kept honest: what one writes with these libraries in an hour.

The SDK's objects, FastAPI's StreamingResponse, the answer pushed to Redis at its end. Same
server, same loop, same connection bounds as the service; nothing is logged before it is shown,
nothing can be resumed, stopped, taken over or limited.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import groq
import httpx
import redis.asyncio as aioredis
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


class ChatBody(BaseModel):
    user_query: str
    session_id: str = "default"


def create_app(upstream: str, redis_url: str) -> FastAPI:
    app = FastAPI()
    limits = httpx.Limits(max_connections=4096, max_keepalive_connections=256)
    client = groq.AsyncGroq(
        api_key="gsk_bench", base_url=upstream, http_client=groq.DefaultAsyncHttpxClient(limits=limits)
    )
    # redis-py's own bound of 100 connections would refuse to store answers at 500 streams.
    store = aioredis.from_url(redis_url, max_connections=4096)

    @app.post("/chat")
    async def chat(body: ChatBody) -> StreamingResponse:
        async def answer() -> AsyncIterator[str]:
            messages: list[Any] = [
                {"role": "system", "content": "You are a helpful AI assistant."},
                {"role": "user", "content": body.user_query},
            ]
            stream = await client.chat.completions.create(
                model="openai/gpt-oss-120b", messages=messages, stream=True
            )
            said = []
            async for chunk in stream:
                text = chunk.choices[0].delta.content if chunk.choices else None
                if text:
                    said.append(text)
                    yield text
            await store.rpush(f"history:{body.session_id}", body.user_query, "".join(said))

        return StreamingResponse(answer(), media_type="text/plain")

    return app


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    print("ready", flush=True)
    uvicorn.run(
        create_app(os.environ["GROQ_BASE_URL"], os.environ["BENCH_REDIS_URL"]),
        fd=listener.fileno(),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
