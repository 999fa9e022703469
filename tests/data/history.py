"""`python -m tests.data.history`: sessions of version 0.1.0, made by it and written as its Redis has them.

The file beside this one is read by tests/integration/test_histories_of_0_1_0.py. It is made once and kept:
what it holds was stored by a version that is not built any more. Sessions only; no keys of the machine, of
credentials or of the ledger.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support.old_version import old_version
from tests.support.processes import Replica
from tests.support.redis import RedisServer
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually

PATH = Path(__file__).with_name("history-0.1.0.json")
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PLAIN = {"user_query": "[[say=Plain.]]", "session_id": "text"}
CUT = "[[tokens=20 seed=4 rate=40 fault=garbage after=12]]"
KEY = {"Idempotency-Key": "of-0.1.0"}


class Made:
    """The sessions, each made as the clients of its dialect do."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def native(self, session: str, body: dict[str, Any], **headers: str) -> str:
        answer = self.http.post(f"/v1/sessions/{session}/turns", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    def begin(self, session: str, content: str, tokens: int) -> str:
        """The path of a turn that has said so many tokens."""
        path = f"/v1/sessions/{session}/turns"
        answer = self.http.post(path, json={"content": content}, headers={"Prefer": "respond-async"})
        turn = str(answer.headers["location"])
        eventually(lambda: len(self.http.get(turn).json()["text"].split()) > tokens, within=20)
        return turn

    def openai(self, session: str, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        body = {"messages": messages, "session_id": session, **more}
        answer = self.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["choices"][0]["message"]
        return found

    def use_chat(self, session: str, *messages: dict[str, Any], **more: Any) -> str:
        answer = self.http.post("/api/chat", json={"id": session, "messages": messages, **more})
        assert answer.status_code == 200, answer.text
        return answer.text


def user(message_id: str, text: str) -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def make(made: Made) -> None:
    made.http.post(
        "/v1/sessions", json={"id": "native", "title": "Of 0.1.0", "system_prompt": "Be brief."}
    ).raise_for_status()
    made.native("native", {"content": "[[say=One.]]"}, **KEY)
    made.native("native", {"content": "[[reasoning=3 say=Zwei: äöü 😀]]", "model": "openai/gpt-oss-20b"})
    _edited(made)
    _stopped_and_failed(made)
    _openai(made)
    _use_chat(made)
    made.native("pending", {"content": "[[tool=weather say=Dry.]]"})
    plain = made.http.post("/chat", json=PLAIN, headers=KEY)
    assert plain.text == "Plain."


def _edited(made: Made) -> None:
    made.native("edited", {"content": "[[tokens=5 vary]]"})
    made.native("edited", {"regenerate": True})
    made.native("edited", {"content": "[[say=Old.]]"})
    made.native("edited", {"content": "[[say=Cut off.]]"})
    page = made.http.get("/v1/sessions/edited/messages").json()["data"]
    edit = {"message_id": page[2]["id"], "content": "[[say=New.]]"}
    made.native("edited", {"edit": edit})


def _stopped_and_failed(made: Made) -> None:
    turn = made.begin("stopped", "[[tokens=500 rate=100 seed=3]]", 5)
    assert made.http.post(f"{turn}/stop").json()["state"] == "stopped"
    made.native("stopped", {"content": "[[say=Fine.]]"})
    assert "turn.failed" in made.native("failed", {"content": "[[fault=400]]"})
    assert "turn.failed" in made.native(
        "failed", {"content": "[[tokens=20 seed=4 rate=40 fault=garbage after=12]]"}
    )
    made.native("failed", {"content": "[[say=Again.]]"})


def _openai(made: Made) -> None:
    told: list[dict[str, Any]] = [{"role": "system", "content": "You are 0.1.0."}]
    told.append({"role": "user", "content": "[[say=Hello.]]"})
    told.append(made.openai("openai", told))
    told.append({"role": "user", "content": "[[say=Bye.]]"})
    made.openai("openai", told)
    told = [{"role": "user", "content": "[[tool=weather say=Rain.]]"}]
    told.append(made.openai("openai-tools", told, tools=[WEATHER]))
    call = told[1]["tool_calls"][0]["id"]
    told.append({"role": "tool", "tool_call_id": call, "content": "wet"})
    assert made.openai("openai-tools", told, tools=[WEATHER])["content"] == "Rain."


def _use_chat(made: Made) -> None:
    first, second = user("u1", "[[reasoning=2 say=Hi.]]"), user("u2", "[[tokens=4 vary]]")
    made.use_chat("usechat", first, model="openai/gpt-oss-20b")
    made.use_chat("usechat", first, second)
    made.use_chat("usechat", first, second, trigger="regenerate-message")
    changed = user("u1", "[[say=Changed.]]")
    made.use_chat("usechat-edited", user("u1", "[[say=Before.]]"))
    made.use_chat("usechat-edited", changed, messageId="u1")
    made.use_chat("usechat-tools", user("u1", "[[tool=weather say=Never.]]"))
    made.use_chat("usechat-tools", user("u2", "[[say=After.]]"))


def dump(redis: Any) -> dict[str, Any]:
    """All keys of sessions: what each holds, and for how many seconds."""
    names = [name for name in redis.scan_iter("*") if name.startswith("chat:{none.") or "deadlines" in name]
    names = [name for name in names if ":usage:" not in name]
    return {name: {"ttl": redis.ttl(name), **_value(redis, name)} for name in sorted(names)}


def _value(redis: Any, name: str) -> dict[str, Any]:
    kind = redis.type(name)
    read = {
        "string": lambda: redis.get(name),
        "hash": lambda: redis.hgetall(name),
        "zset": lambda: redis.zrange(name, 0, -1, withscores=True),
        "list": lambda: redis.lrange(name, 0, -1),
        "stream": lambda: redis.xrange(name),
    }
    return {"type": kind, "value": read[kind]()}


def load(redis: Any, path: Path = PATH) -> None:
    """Put what is in the file into a Redis, as it was there."""
    for name, held in json.loads(path.read_text()).items():
        kind, value = held["type"], held["value"]
        if kind == "string":
            redis.set(name, value)
        elif kind == "hash":
            redis.hset(name, mapping=value)
        elif kind == "zset":
            redis.zadd(name, dict(value))
        elif kind == "list":
            redis.rpush(name, *value)
        for event, fields in value if kind == "stream" else ():
            redis.xadd(name, fields, id=event)
        if held["ttl"] > 0:
            redis.expire(name, held["ttl"])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        code = old_version(directory / "code")
        redis, upstream = RedisServer(directory / "redis"), DoubleProcess()
        settings: dict[str, Any] = {"redis_url": redis.url, "max_attempts": 1, "workers": 1}
        try:
            old = Replica(directory / "old", code=code, GROQ_BASE_URL=upstream.url, **settings)
            with httpx.Client(base_url=old.url, timeout=30) as http:
                made = Made(http)
                make(made)
                time.sleep(1)  # until what follows an answer (the ledger, the index of sessions) is written
                made.begin("running", "[[tokens=120 rate=60 seed=9]]", 10)
                old.kill()  # its host is lost in the middle of an answer
            found = dump(redis.client())
        finally:
            upstream.close()
            redis.close()
    text = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    PATH.write_text(text.replace(f'"{socket.gethostname()}:', '"lost-host:'))
    sessions = {name.split("/")[1].split("}")[0] for name in found if "/" in name}
    sys.stdout.write(f"{len(found)} keys of {len(sessions)} sessions\n")


if __name__ == "__main__":
    main()
