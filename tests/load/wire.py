"""What the model of the benchmark says, and how Groq would put it on the wire.

Every token but the first has the same number of bytes, so that whoever counts bytes counts
tokens; every fourth says where it stands, so that a lost, doubled or swapped stretch never
passes for the right text. The first one is the moment (CLOCK_MONOTONIC, ns) from which the rest
is due at the asked rate: lateness is measured against that plan, never against what the model
managed to do.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

import orjson

from service.demo.wire import DONE, Usage, Wire

COMPLETIONS: Final = "/openai/v1/chat/completions"
STAMP_BYTES: Final = 16
TOKEN_BYTES: Final = 5

# Quotes, markup, line ends (U+2028 too), two-, three- and four-byte characters, five bytes each.
_WORDS: Final = (" the ", " naï", '\n"a" ', "<b>x ", "\u2028- ", " 😀", "語, ", " code", "\\n {}", "data:")
_WISH: Final = re.compile(rb"\[\[tokens=(\d+) rate=(\d+)(?: first_delay=(\d+))?\]\]")
_WIRE: Final = Wire("openai/gpt-oss-120b", "req_01bench", 1)


@cache
def token(place: int) -> str:
    """The token at a place from 1 on; place 0 has the stamp."""
    return f" {place % 4096:03x}." if place % 4 == 0 else _WORDS[place % len(_WORDS)]


@cache
def text_after_stamp(tokens: int) -> bytes:
    return "".join(token(place) for place in range(1, tokens)).encode()


def tokens_in(received: int) -> int:
    """How many whole tokens so many bytes of text are."""
    return 0 if received < STAMP_BYTES else 1 + (received - STAMP_BYTES) // TOKEN_BYTES


def wish(tokens: int, rate: int, first_delay: int = 0) -> str:
    """What a question has to say to get such an answer."""
    return f"[[tokens={tokens} rate={rate}" + (f" first_delay={first_delay}]]" if first_delay else "]]")


def wished(body: bytes) -> tuple[int, int, int]:
    """Tokens, rate and first delay (s) of the last question in a body."""
    tokens, rate, delay = _WISH.findall(body)[-1]
    return int(tokens), int(rate), int(delay or 0)


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\nCache-Control: no-cache\r\n"
    b"x-ratelimit-limit-requests: 500000\r\nx-ratelimit-limit-tokens: 250000000\r\n"
    b"x-ratelimit-remaining-requests: 499999\r\nx-ratelimit-remaining-tokens: 249990000\r\n"
    b"x-ratelimit-reset-requests: 172ms\r\nx-ratelimit-reset-tokens: 185ms\r\n"
    b"x-request-id: req_01bench\r\nx-groq-region: us-west-1\r\nvia: 1.1 google\r\n\r\n"
    + _http_chunk(_WIRE.role())
)


@cache
def token_on_wire(place: int) -> bytes:
    return _http_chunk(_WIRE.content(token(place)))


def stamp_on_wire(nanoseconds: int) -> bytes:
    return _http_chunk(_WIRE.content(f"{nanoseconds:016x}"))


@cache
def tail_on_wire(tokens: int) -> bytes:
    usage = Usage(prompt=20, completion=tokens)
    return (
        b"".join(_http_chunk(data) for data in (_WIRE.finish("stop", usage), _WIRE.usage(usage), DONE))
        + b"0\r\n\r\n"
    )


def groq_request(question: str, path: str = COMPLETIONS) -> bytes:
    """What the SDK sends, as bytes: for clients of the model, and of what passes it on."""
    return post(
        path,
        "gsk_bench",
        {
            "messages": [
                {"role": "system", "content": "You are a helpful AI assistant."},
                {"role": "user", "content": question},
            ],
            "model": "openai/gpt-oss-120b",
            "max_completion_tokens": 8192,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )


def chat_request(key: str, question: str, **more: str) -> bytes:
    """`POST /chat`, as any client would send it."""
    return post("/chat", key, {"user_query": question, **more})


def turn_request(key: str, question: str, session_id: str) -> bytes:
    """The native route, streamed."""
    return post(f"/v1/sessions/{session_id}/turns", key, {"content": question})


def response_request(key: str, question: str) -> bytes:
    return post("/v1/responses", key, {"input": question, "stream": True})


def events_request(key: str, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        "Accept: text/event-stream\r\n\r\n"
    ).encode()


def post(path: str, key: str, document: object) -> bytes:
    body = orjson.dumps(document)
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
