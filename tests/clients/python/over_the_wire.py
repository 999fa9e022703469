"""Programs that speak plain HTTP: `curl --http2` and the JDK's HttpClient, which both ask for HTTP/2 first.

The text of /chat is streamed; tools and objects are asked for at /v1/chat/completions, in one piece.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from playing import Asked, play
from shapes import SCHEMA, TOOL, said

_CURL = [
    "curl",
    "--http2",
    "-sSN",
    "-w",
    "\n%{http_code}",
    "-H",
    "Content-Type: application/json",
    "-d",
    "@-",
]


class Failed(Exception):
    """`kind` is what the program calls it: curl its exit status, Java a class; of a refusal the status."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def sent(asked: Asked, path: str, body: Any) -> tuple[int, str, str]:
    """The status, what came of the body, and what the program says of a failure ("" for none)."""
    url, data = f"{asked.url}{path}", json.dumps(body).encode()
    if asked.options["program"] == "curl":
        done = subprocess.run([*_CURL, url], input=data, capture_output=True, check=False)
        text, _, status = done.stdout.decode().rpartition("\n")
    else:
        command = ["java", "-XX:TieredStopAtLevel=1", "Http", url]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        status, _, text = done.stdout.decode().partition("\n")
    return int(status or 0), text, done.stderr.decode().strip()


def stream(asked: Asked, question: str) -> None:
    status, text, failure = sent(asked, "/chat", {"user_query": question})
    if status != 200:
        raise Failed(str(status), text)
    asked.show(text)
    if failure:
        kind = re.match(r"curl: \(\d+\)|\w+", failure)
        raise Failed(kind[0] if kind else "", failure)


def completed(asked: Asked, messages: list[Any], **fields: Any) -> Any:
    body = {"model": asked.model, "messages": messages, **fields}
    status, text, _ = sent(asked, "/v1/chat/completions", body)
    if status != 200:
        raise Failed(str(status), text)
    return json.loads(text)["choices"][0]["message"]


def tools(asked: Asked, question: str) -> str:
    messages = said(question)
    message = completed(asked, messages, tools=[TOOL])
    messages.append(message)
    for call in message["tool_calls"]:
        content = asked.weather(**json.loads(call["function"]["arguments"]))
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    return str(completed(asked, messages, tools=[TOOL])["content"])


def structured(asked: Asked, question: str) -> Any:
    schema = {"name": "weather", "strict": True, "schema": SCHEMA}
    form = {"type": "json_schema", "json_schema": schema}
    return json.loads(completed(asked, said(question), response_format=form)["content"])


play(stream=stream, tools=tools, structured=structured)
