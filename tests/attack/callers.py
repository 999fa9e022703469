"""Attackers with a key of their own who want more than their share: room, answers, tokens, others' trust."""

from __future__ import annotations

import asyncio
from typing import Final

import httpx

from tests.attack.attack import Attack, attacker
from tests.attack.connection import Answer, request

_PLENTY: Final = "1000000/minute"
_SEND: Final = "/v1/sessions/{}/turns"


@attacker("sessions with system prompts of 65,536 emoji (256 KiB), of 16,384 and of 4,096")
async def long_prompts(attack: Attack) -> None:
    key = await attack.key("long-prompts")
    bodies = [{"system_prompt": "\U0001f600" * characters} for characters in (65_536, 16_384, 4_096)]
    await attack.flood(
        lambda number: request("POST", "/v1/sessions", key=key, body=bodies[number % 3]), per_second=60
    )
    made = attack.tally.answers["201"]
    attack.tally.check(made <= 200, f"{made} sessions made by a key that may send 100 a minute")


@attacker("`/v1/chat/completions` with a `user` of 1 MB, a name of 1 MB, a stop of 1 MB")
async def long_fields(attack: Attack) -> None:
    key = await attack.key("long-fields")
    large = "u" * 1_000_000
    message = {"role": "user", "content": "[[tokens=5 rate=0]]"}
    bodies = (
        {"messages": [message], "user": large},
        {"messages": [{**message, "name": large}]},
        {"messages": [message], "stop": [large]},
        {"messages": [message], "metadata": {"a": large}},
    )
    await attack.flood(
        lambda number: request("POST", "/v1/chat/completions", key=key, body=bodies[number % 4]),
        per_second=40,
    )


@attacker("a key without a limit of requests fills the store: histories, messages, prompts, titles")
async def full_store(attack: Attack) -> None:
    key = await attack.key("full-store", limit_sends=_PLENTY, limit_reads=_PLENTY)
    item = {"role": "user", "content": "h" * 90_000}
    history = [item, {**item, "role": "assistant"}] * 5

    def make(number: int) -> bytes:
        session = f"full-{number}"
        match number % 4:
            case 0:
                body = {"session_id": session, "user_query": "[[tokens=5 rate=0]]", "history": history}
                return request("POST", "/chat-with-history", key=key, body=body)
            case 1:
                body = {"content": "[[tokens=5 rate=0]] " + "c" * 300_000}
                return request("POST", _SEND.format(session), key=key, body=body)
            case 2:
                body = {"id": session, "title": "t" * 200, "system_prompt": "p" * 60_000}
                return request("POST", "/v1/sessions", key=key, body=body)
            case _:
                body = {"content": "[[tokens=5000 rate=0]]"}
                return request("POST", _SEND.format(session), key=key, body=body)

    await attack.flood(make, connections=16, per_second=40)


@attacker("a key far over its limit goes on sending bodies of 332 KiB, on 20 connections")
async def over_limit(attack: Attack) -> None:
    key = await attack.key("over-limit")
    small = request("POST", "/chat", key=key, body={"user_query": "[[tokens=1 rate=0]]"})
    await asyncio.gather(*(attack.ask(small) for _ in range(120)))
    bodies = (
        request("POST", "/chat", key=key, body={"user_query": "q" * 340_000}),
        request(
            "POST", "/v1/sessions/over/turns", key=key, body={"content": "[[tokens=1]]", "q": "q" * 340_000}
        ),
    )
    await attack.flood(lambda number: bodies[number % 2], connections=20)


@attacker("repeats of a known Idempotency-Key, other bodies under it, stops of unknown turns")
async def repeats(attack: Attack) -> None:
    key = await attack.key("repeats")
    known = {"Idempotency-Key": "known", "Accept": "application/json"}
    send = request("POST", _SEND.format("r"), key=key, body={"content": "[[tokens=20]] known"}, headers=known)
    first = await attack.ask(send)
    assert first is not None
    turn = first.headers["x-turn-id"]
    requests = (
        send,
        request("POST", _SEND.format("r"), key=key, body={"content": "another"}, headers=known),
        request("POST", "/v1/sessions/r/turns/t_unknown/stop", key=key),
        request("POST", "/v1/sessions/unknown/turns/t_unknown/stop", key=key),
    )

    def look(number: int, answer: Answer) -> None:
        again = answer.headers.get("x-turn-id", turn)
        attack.tally.check(number % 4 or again == turn, f"the repeat is another turn: {again}")

    await attack.flood(lambda number: requests[number % 4], look=look)
    # Reads are 1,200 a minute, a repeat costs a read; 409 and 404 have been counted as refusals.
    if attack.tally.made > 1_500:
        attack.tally.check(attack.tally.answers["429"], "no limit counted any of them")
    said = await _asked(attack, "known")
    attack.tally.check(len(said) == 1, f"{len(said)} calls for one send")


@attacker("prompts of 37,000 tokens, each stopped before its first token, under a budget of 50,000 a day")
async def stopped_prompts(attack: Attack) -> None:
    key = await attack.key("stopped-prompts", budget_tokens_per_day=50_000)
    attack.deadline += 15  # ten turns, one after the other, and the ledger, however slow the machine is
    content = "[[tokens=10 first_delay=20]] stopped prompts " + "word " * (37_000 * 4 // 5)
    for number in range(10):
        path = _SEND.format(f"stopped-{number}")
        body = {"content": content}
        begun = await attack.ask(
            request("POST", path, key=key, body=body, headers={"Prefer": "respond-async"})
        )
        if begun is not None and begun.status == 202:
            await _until_asked(attack, "stopped prompts", number + 1)
            await attack.ask(request("POST", f"{begun.headers['location']}/stop", key=key))
    asked = await _asked(attack, "stopped prompts")
    prompts = sum(call["prompt_tokens"] for call in asked)
    usage = await attack.ask(request("GET", "/v1/usage", key=key))
    assert usage is not None
    booked = sum(row["prompt_tokens"] for row in usage.json()["data"])
    # A stopped call has no word of the provider's: the estimate is booked. It has 16 tokens for the model's
    # own template, and the double counts none.
    estimated = booked == prompts + 16 * len(asked)
    attack.tally.check(estimated, f"{prompts} prompt tokens asked for, {booked} booked")
    attack.tally.check(
        prompts < 100_000, f"{prompts} prompt tokens reached the model under a budget of 50,000"
    )


@attacker("a model that the organisation may not use (403 of the provider), asked for again and again")
async def forbidden_model(attack: Attack) -> None:
    key = await attack.key("forbidden-model")
    body = {
        "model": "openai/gpt-oss-safeguard-20b",
        "messages": [{"role": "user", "content": "[[fault=model_permission_blocked]]"}],
    }
    await attack.flood(
        lambda _: request("POST", "/v1/chat/completions", key=key, body=body), connections=4, per_second=20
    )


async def _until_asked(attack: Attack, contains: str, calls: int) -> None:
    while attack.left > 0 and len(await _asked(attack, contains)) < calls:
        await attack.pause(0.1)


async def _asked(attack: Attack, contains: str) -> list[dict[str, int]]:
    """The calls of the model with these words in them."""
    async with httpx.AsyncClient(base_url=attack.context.double, timeout=10) as client:
        found: list[dict[str, int]] = (
            await client.get("/_double/calls", params={"contains": contains})
        ).json()["calls"]
        return found


@attacker("other people's sessions, turns, keys and usage, guessed")
async def guesses(attack: Attack) -> None:
    key = await attack.key("guesses")
    paths = (
        "/v1/sessions/tenant-s0",
        "/v1/sessions/tenant-s0/messages",
        "/v1/sessions/tenant-s0/export",
        "/v1/sessions/tenant-s0/turns/t_x/events",
        "/v1/keys",
        "/v1/usage?principal=tenant",
        "/v1/usage/principals",
        "/api/chat/tenant-s0/messages",
    )

    def look(number: int, answer: Answer) -> None:
        attack.tally.check(
            answer.status in (403, 404, 429), f"{answer.status} for {paths[number % len(paths)]}"
        )

    await attack.flood(lambda number: request("GET", paths[number % len(paths)], key=key), look=look)


@attacker("20 running answers and the longest queues that one key may have, of a model that never begins")
async def hanging_turns(attack: Attack) -> None:
    key = await attack.key("hanging-turns")
    headers = {"Prefer": "respond-async"}
    body = {"content": "[[fault=hang]]", "on_busy": "queue"}
    await attack.flood(
        lambda number: request(
            "POST", _SEND.format(f"hang-{number % 25}"), key=key, body=body, headers=headers
        ),
        per_second=40,
    )
