"""One small client per dialect, so that one test can hold all of them to the same behaviour.

`send` reads an answer to its end and says how it ended: completed, stopped, failed (told so in
the dialect's way) or broken (the connection). A refusal before the first byte has a status.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.service import Served

OnText = Callable[[str], Any]


@dataclass(frozen=True)
class Outcome:
    status: int
    text: str
    end: str
    body: str = ""


class Dialect(ABC):
    """`shown` is called with the text so far whenever there is more."""

    name: str
    path: str
    replaces_text = False
    whole = False  # in one piece, at its end

    @abstractmethod
    def body(self, message: str, session: str) -> dict[str, Any]: ...

    @abstractmethod
    def read(self, data: str) -> tuple[str, str]:
        """The text in a (maybe incomplete) body, and the end it tells of ('' for none)."""

    def url(self, session: str) -> str:
        return self.path

    async def send(
        self,
        served: Served,
        message: str,
        session: str = "s",
        *,
        shown: OnText | None = None,
        headers: dict[str, str] | None = None,
    ) -> Outcome:
        request = served.client.stream(
            "POST", self.url(session), json=self.body(message, session), headers=headers
        )
        data = b""
        async with request as answer:
            try:
                async for chunk in answer.aiter_raw():
                    data += chunk
                    if shown is not None and answer.status_code == 200:
                        shown(self.read(data.decode(errors="ignore"))[0])
            except httpx.TransportError:
                text, end = self.read(data.decode(errors="ignore"))
                return Outcome(answer.status_code, text, end or "broken")
        if answer.status_code != 200:
            return Outcome(answer.status_code, "", "refused", data.decode())
        text, end = self.read(data.decode())
        return Outcome(200, text, end)


def datas(data: str) -> list[Any]:
    """The JSON of all whole `data:` lines."""
    lines = [line[6:] for line in data.split("\n") if line.startswith("data: ") and line[6:] != "[DONE]"]
    if lines and not data.endswith("\n"):
        lines.pop()
    return [json.loads(line) for line in lines]


class Text(Dialect):
    name, path = "text", "/chat"

    def body(self, message: str, session: str) -> dict[str, Any]:
        return {"user_query": message, "session_id": session}

    def read(self, data: str) -> tuple[str, str]:
        return data, ""

    async def send(self, *args: Any, **kwargs: Any) -> Outcome:
        found = await super().send(*args, **kwargs)
        return found if found.end else Outcome(found.status, found.text, "completed")


class Native(Dialect):
    name, path = "native", "/v1/sessions/{}/turns"
    replaces_text = True

    def url(self, session: str) -> str:
        return self.path.format(session)

    def body(self, message: str, session: str) -> dict[str, Any]:
        return {"content": message}

    def read(self, data: str) -> tuple[str, str]:
        text = end = ""
        for block in data.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            name = fields.get("event", "")
            if name == "delta":
                text += json.loads(fields["data"])["text"]
            elif name == "turn.restarted":
                text = ""
            elif name in ("turn.completed", "turn.stopped", "turn.failed"):
                end = name.removeprefix("turn.")
        return text, end


class OpenAI(Dialect):
    name, path = "openai", "/v1/chat/completions"

    def body(self, message: str, session: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": message}]
        return {"messages": messages, "session_id": session, "stream": True}

    def read(self, data: str) -> tuple[str, str]:
        text = end = ""
        for chunk in datas(data):
            if "error" in chunk:
                return text, "failed"
            for choice in chunk["choices"]:
                text += choice["delta"].get("content") or ""
                end = end or (choice["finish_reason"] or "")
        assert ("[DONE]" in data) <= bool(end), "no [DONE] without a finish_reason"
        return text, "completed" if end == "stop" else end


class OpenAIWhole(OpenAI):
    name = "openai-whole"
    replaces_text = whole = True

    def body(self, message: str, session: str) -> dict[str, Any]:
        return {**super().body(message, session), "stream": False}

    def read(self, data: str) -> tuple[str, str]:
        if not data.endswith("}"):
            return "", ""
        return json.loads(data)["choices"][0]["message"]["content"], "completed"


class Responses(Dialect):
    name, path = "responses", "/v1/responses"

    def body(self, message: str, session: str) -> dict[str, Any]:
        return {"input": message, "conversation": session, "stream": True}

    def read(self, data: str) -> tuple[str, str]:
        text = end = ""
        for event in datas(data):
            if event["type"] == "response.output_text.delta":
                text += event["delta"]
            elif event["type"] == "error":
                return text, "failed"
            elif event["type"] in ("response.completed", "response.incomplete"):
                assert event["response"]["output"] == [] or data.count("response.output_item.done")
                end = event["response"]["status"].replace("cancelled", "stopped")
        return text, end


class ResponsesWhole(Responses):
    name = "responses-whole"
    replaces_text = whole = True

    def body(self, message: str, session: str) -> dict[str, Any]:
        return {**super().body(message, session), "stream": False}

    def read(self, data: str) -> tuple[str, str]:
        if not data.endswith("}"):
            return "", ""
        response = json.loads(data)
        text = "".join(item["content"][0]["text"] for item in response["output"])
        return text, response["status"].replace("cancelled", "stopped")


class AiSdk(Dialect):
    name, path = "aisdk", "/api/chat"

    def body(self, message: str, session: str) -> dict[str, Any]:
        user = {"id": f"u-{session}-{message}", "role": "user", "parts": [{"type": "text", "text": message}]}
        return {"id": session, "messages": [user], "trigger": "submit-message"}

    def read(self, data: str) -> tuple[str, str]:
        parts: dict[str, str] = {}
        end = ""
        for chunk in datas(data):
            assert not end, "nothing comes after the end"
            if chunk["type"] == "text-start":
                parts[chunk["id"]] = ""
            elif chunk["type"] == "text-delta":
                parts[chunk["id"]] += chunk["delta"]
            elif chunk["type"] == "reset-step":
                parts.clear()
            elif chunk["type"] in ("finish", "abort", "error"):
                end = {"finish": "completed", "abort": "stopped", "error": "failed"}[chunk["type"]]
        return "".join(parts.values()), end


class AiSdkResetting(AiSdk):
    """What a client of AI SDK 7 asks for."""

    name = "aisdk-7"
    replaces_text = True

    async def send(self, *args: Any, **kwargs: Any) -> Outcome:
        headers = {"X-Accept-Chunks": "reset-step", **(kwargs.pop("headers", None) or {})}
        return await super().send(*args, headers=headers, **kwargs)


DIALECTS: list[Dialect] = [
    Text(),
    Native(),
    OpenAI(),
    OpenAIWhole(),
    Responses(),
    ResponsesWhole(),
    AiSdk(),
    AiSdkResetting(),
]
