"""Tickets: the URL of one turn's events, for an EventSource that cannot send headers."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Start
from tests.support.identity import bearer, credentials_of, id_in, make_key
from tests.support.issuer import SECRET, token
from tests.support.service import Served
from tests.support.sse import frames, text_of
from tests.support.waiting import eventually_async

TEXT = "[[tokens=20 seed=5]]"


async def turn(served: Served, key: str, session: str = "s", content: str = TEXT) -> str:
    """A turn's path."""
    answer = await served.client.post(
        f"/v1/sessions/{session}/turns",
        json={"content": content},
        headers={**bearer(key), "Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def ticket(served: Served, key: str, path: str) -> str:
    """The URL that a ticket call gives."""
    answer = await served.client.post(f"{path}/ticket", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    url = str(answer.json()["url"])
    assert url.startswith(f"{path}/events?ticket=")
    assert 590 < answer.json()["expires"] - time.time() <= 600
    return url


async def status(served: Served, url: str) -> int:
    async with served.client.stream("GET", url) as answer:
        return answer.status_code


async def test_a_ticket_opens_the_events_without_any_header(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        path = await turn(served, key)
        url = await ticket(served, key, path)
        async with served.client.stream("GET", url) as answer:
            with_ticket = [frame async for frame in frames(answer)]
        async with served.client.stream("GET", f"{path}/events", headers=bearer(key)) as answer:
            with_key = [frame async for frame in frames(answer)]
        assert with_ticket == with_key
        assert text_of(with_ticket)
        assert with_ticket[-1].event == "turn.completed"


async def test_an_eventsource_comes_back_with_the_same_url_and_its_cursor(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        url = await ticket(served, key, await turn(served, key))
        async with served.client.stream("GET", url) as answer:
            whole = [frame async for frame in frames(answer)]
        async with served.client.stream("GET", url, headers={"Last-Event-ID": "3"}) as answer:
            rest = [frame async for frame in frames(answer)]
        assert rest == whole[3:]


async def test_a_ticket_made_by_one_replica_opens_at_another(start: Start) -> None:
    async with start(auth="keys") as one, start(auth="keys") as two:
        key = await make_key(one)
        url = await ticket(one, key, await turn(one, key))
        assert await status(two, url) == 200


async def test_a_configured_secret_signs_instead_of_the_shared_one(start: Start) -> None:
    async with start(auth="keys", secret="a" * 32) as one, start(auth="keys", secret="b" * 32) as two:
        key = await make_key(one)
        url = await ticket(one, key, await turn(one, key))
        assert [await status(one, url), await status(two, url)] == [200, 401]


async def test_a_ticket_is_for_one_turn_and_for_its_events_only(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        first = await turn(served, key)
        second, elsewhere = await turn(served, key, "other"), await turn(served, key, "s2")
        permission = (await ticket(served, key, first)).partition("?")[2]
        assert await status(served, f"{first}/events?{permission}") == 200
        for url in (
            f"{second}/events?{permission}",
            f"{elsewhere}/events?{permission}",
            f"{first}?{permission}",
            f"/v1/sessions/s?{permission}",
            f"/v1/sessions/s/messages?{permission}",
            f"/v1/sessions?{permission}",
            f"/v1/models?{permission}",
        ):
            assert await status(served, url) == 401, url
        assert (await served.client.post(f"{first}/stop?{permission}")).status_code == 401
        assert (await served.client.post(f"{first}/ticket?{permission}")).status_code == 401


async def test_a_ticket_that_was_changed_is_refused(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        other = await make_key(served)
        path = await turn(served, key)
        expires, key_id, principal, mac = (await ticket(served, key, path)).partition("ticket=")[2].split("~")
        for changed in (
            f"{int(expires) + 1}~{key_id}~{principal}~{mac}",
            f"{expires}~{id_in(other)}~{principal}~{mac}",
            f"{expires}~{key_id}~key.{id_in(other)}~{mac}",
            f"{expires}~~{principal}~{mac}",
            f"{expires}~{key_id}~{principal}~{mac[:-1]}",
            f"{expires}~{key_id}~{principal}~",
            f"{expires}~{key_id}~{principal}",
            f"-{expires}~{key_id}~{principal}~{mac}",
            "~~~",
            "~" * 600,
            f"{expires}~{key_id}~{principal}~\N{LATIN SMALL LETTER E WITH ACUTE}",
            f"²~{key_id}~{principal}~{mac}",
        ):
            assert await status(served, f"{path}/events?ticket={changed}") == 401, changed
        assert await status(served, f"{path}/events?ticket={expires}~{key_id}~{principal}~{mac}") == 200


async def test_a_ticket_ends_after_ten_minutes_and_a_stream_that_is_open_goes_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        path = await turn(served, key, content="[[tokens=60 rate=60]]")
        url = await ticket(served, key, path)
        async with served.client.stream("GET", url) as answer:
            assert answer.status_code == 200
            later = time.time() + 601
            monkeypatch.setattr("service.api.auth.tickets.time.time", lambda: later)
            assert await status(served, url) == 401
            events = [frame async for frame in frames(answer)]
        assert events[-1].event == "turn.completed"


async def test_a_revoked_key_ends_its_tickets_too(start: Start) -> None:
    async with start(auth="keys") as served:
        key = await make_key(served)
        url = await ticket(served, key, await turn(served, key))
        await credentials_of(served).revoke(id_in(key))

        async def refused() -> bool:
            return await status(served, url) == 401

        await eventually_async(refused)


async def test_a_ticket_does_not_outlive_the_token_that_asked_for_it(start: Start) -> None:
    async with start(auth="jwt", jwt_key=SECRET, jwt_algorithms="HS256", jwt_leeway_seconds=0) as served:
        short = token(lives=100)
        path = await turn(served, short)
        answer = await served.client.post(f"{path}/ticket", headers=bearer(short))
        assert answer.json()["expires"] - time.time() <= 100
        assert await status(served, answer.json()["url"]) == 200


async def test_a_ticket_for_what_is_not_the_callers_is_not_found(start: Start) -> None:
    async with start(auth="keys") as served:
        mine, yours = await make_key(served), await make_key(served)
        path = await turn(served, yours)
        answer = await served.client.post(f"{path}/ticket", headers=bearer(mine))
        assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")


async def test_without_authentication_a_ticket_is_given_and_works(served: Served) -> None:
    path = await turn(served, "anything")
    assert await status(served, await ticket(served, "anything", path)) == 200
