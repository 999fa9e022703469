"""One small client per dialect that calls tools: it asks, is told calls, and sends their results back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from tests.support.dialects import datas
from tests.support.service import Served

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": {"type": "object"}},
}


@dataclass
class Result:
    """What a tool gave. Chat completions have no word for a failure: there it is a text as any other."""

    content: str
    is_error: bool = False


@dataclass
class Round:
    """What a model has said in one turn."""

    text: str
    calls: list[str]  # ids
    status: int = 200
    body: str = ""


@dataclass
class ToolClient(ABC):
    served: Served
    session: str = "s"
    tells_errors = True
    extra: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)  # of who keeps a list of its own

    @abstractmethod
    async def ask(self, question: str) -> Round: ...

    @abstractmethod
    async def answer(self, results: dict[str, Result]) -> Round: ...


class NativeTools(ToolClient):
    async def ask(self, question: str) -> Round:
        return await self.post({"content": question})

    async def answer(self, results: dict[str, Result]) -> Round:
        told = [
            {"tool_call_id": call, "content": one.content, **({"is_error": True} if one.is_error else {})}
            for call, one in results.items()
        ]
        return await self.post({"tool_results": told})

    async def post(self, body: dict[str, Any], **headers: str) -> Round:
        path = f"/v1/sessions/{self.session}/turns"
        body = {**body, "tools": [WEATHER], **self.extra}
        answer = await self.served.client.post(path, json=body, headers=headers)
        if answer.status_code != 200:
            return Round("", [], answer.status_code, answer.text)
        text, calls = "", []
        for block in answer.text.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields.get("event") == "delta":
                text += json.loads(fields["data"])["text"]
            elif fields.get("event") == "tool_call":
                calls += [told["id"] for told in [json.loads(fields["data"])] if "id" in told]
        return Round(text, calls, body=answer.text)


class OpenAITools(ToolClient):
    tells_errors = False

    async def ask(self, question: str) -> Round:
        self.messages = [*self.messages, {"role": "user", "content": question}]
        return await self._post()

    async def answer(self, results: dict[str, Result]) -> Round:
        self.messages += [
            {"role": "tool", "tool_call_id": call, "content": one.content} for call, one in results.items()
        ]
        return await self._post()

    async def _post(self) -> Round:
        body = {"messages": self.messages, "session_id": self.session, "tools": [WEATHER], **self.extra}
        answer = await self.served.client.post("/v1/chat/completions", json=body)
        if answer.status_code != 200:
            return Round("", [], answer.status_code, answer.text)
        message = answer.json()["choices"][0]["message"]
        self.messages = [*self.messages, message]
        return Round(message["content"] or "", [call["id"] for call in message.get("tool_calls", ())])


class AiSdkTools(ToolClient):
    """As useChat does: the results become part of the answer, and the whole chat is sent again."""

    async def ask(self, question: str) -> Round:
        number = len(self.messages)
        parts = [{"type": "text", "text": question}]
        self.messages.append({"id": f"u{number}", "role": "user", "parts": parts})
        return await self._post({})

    async def answer(self, results: dict[str, Result]) -> Round:
        for part in self.messages[-1]["parts"]:
            result = results.get(part.get("toolCallId", ""))
            if result is not None:
                part |= (
                    {"state": "output-error", "errorText": result.content}
                    if result.is_error
                    else {"state": "output-available", "output": result.content}
                )
        return await self._post({"messageId": self.messages[-1]["id"]})

    async def _post(self, more: dict[str, Any]) -> Round:
        body = {"id": self.session, "messages": self.messages, "trigger": "submit-message", **more}
        answer = await self.served.client.post("/api/chat", json={**body, "tools": [WEATHER], **self.extra})
        if answer.status_code != 200:
            return Round("", [], answer.status_code, answer.text)
        said = Round("", [])
        for chunk in datas(answer.text):
            self._take(chunk, said)
        return said

    def replay(self, stream: str) -> None:
        """Build the answer that a stream tells of from its start."""
        for chunk in datas(stream):
            self._take(chunk, Round("", []))

    def _take(self, chunk: dict[str, Any], said: Round) -> None:
        kind, last = chunk["type"], self.messages[-1]
        if kind == "start":
            if last["role"] == "user":
                self.messages.append({"id": chunk["messageId"], "role": "assistant", "parts": []})
            assert self.messages[-1]["id"] == chunk["messageId"]
        elif kind == "start-step":
            last["parts"].append({"type": "step-start"})
        elif kind == "text-start":
            last["parts"].append({"type": "text", "text": "", "state": "done"})
        elif kind == "text-delta":
            last["parts"][-1]["text"] += chunk["delta"]
            said.text += chunk["delta"]
        elif kind == "tool-input-start":
            said.calls.append(chunk["toolCallId"])
        elif kind == "tool-input-available":
            part = {"type": f"tool-{chunk['toolName']}", "toolCallId": chunk["toolCallId"]}
            last["parts"].append({**part, "state": "input-available", "input": chunk["input"]})
        elif kind == "tool-output-available":
            last["parts"][-1] |= {"state": "output-available", "output": chunk["output"]}


class ResponsesTools(ToolClient):
    """In a conversation, which keeps what was said."""

    tells_errors = False

    async def ask(self, question: str) -> Round:
        return await self._post(question)

    async def answer(self, results: dict[str, Result]) -> Round:
        outputs = [
            {"type": "function_call_output", "call_id": call, "output": one.content}
            for call, one in results.items()
        ]
        return await self._post(outputs)

    async def _post(self, given: str | list[dict[str, Any]]) -> Round:
        tool = {"type": "function", **WEATHER["function"]}
        body = {"conversation": self.session, "input": given, "tools": [tool], **self.extra}
        answer = await self.served.client.post("/v1/responses", json=body)
        if answer.status_code != 200:
            return Round("", [], answer.status_code, answer.text)
        output = answer.json()["output"]
        texts = [item["content"][0]["text"] for item in output if item["type"] == "message"]
        return Round("".join(texts), [item["call_id"] for item in output if item["type"] == "function_call"])


# Whose fields of tools have the form of chat completions.
CHAT_FORMED: list[type[ToolClient]] = [NativeTools, OpenAITools, AiSdkTools]
TOOL_CLIENTS: list[type[ToolClient]] = [*CHAT_FORMED, ResponsesTools]
