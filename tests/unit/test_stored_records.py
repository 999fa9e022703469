"""Records as they are stored: each field comes back as it was, under a name of its own."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import orjson
import pytest

from service.config.settings import Settings
from service.money import Amount, Price
from service.store import webhooks
from service.store.keys import Keys
from service.store.ledger import Booking, Bounds, Need
from service.store.messages import HistoryPage, Message, Said, Session, page_of, session_of
from service.store.store import Store
from service.store.turn_records import Turn, TurnRef, priced, turn_of

REF = TurnRef("p", "s", "t")


def is_another(record: Any, names: tuple[str, ...] = ()) -> bool:
    """Has each field a value that it would not have by itself?"""
    return all(
        getattr(record, one.name) not in (None, "", 0, False, (), {})
        for one in fields(record)
        if one.name not in names
    )


def test_a_message_comes_back_as_it_was() -> None:
    message = Message(
        id="m",
        role="assistant",
        content="words",
        turn_id="t",
        state="stopped",
        created=5,
        reasoning="thoughts",
        tool_calls=({"id": "c"},),
        finish_reason="length",
        model="model",
        usage={"prompt_tokens": 1},
        begun=4,
    )
    assert is_another(message, ("parts",))
    assert Message.load("m", message.dump()) == message
    text, call = (
        {"type": "text", "text": "words"},
        {"type": "call", "id": "c", "name": "n", "arguments": "{}"},
    )
    result = {"type": "result", "id": "c", "content": "x"}
    thought = {"type": "reasoning", "text": "thoughts"}
    whole = message.made_of([thought, call, result, text])
    assert whole.parts
    stored = whole.dump()
    assert Message.load("m", stored) == whole
    assert stored.count(b"thoughts") == stored.count(b"words") == 1


def test_a_session_comes_back_as_it_was() -> None:
    session = Session("s", "title", "model", "prompt", 1, 2, 3, "t", named=True, metadata="{}", asked="f")
    assert is_another(session)
    names = {"active_turn": "active"}
    stored = {names.get(one.name, one.name): getattr(session, one.name) for one in fields(session)} | {
        "named": 1
    }
    found = session_of("s", {name.encode(): str(value).encode() for name, value in stored.items()})
    assert found == session
    unnamed = session_of("s", {b"created": b"1", b"named": b"0"})
    assert unnamed is not None
    assert not unnamed.named
    assert session_of("s", {}) is None


def test_what_is_below_a_place_is_not_at_it() -> None:
    page = HistoryPage([Said(n, "user", str(n), "t") for n in (6, 4, 2)], more=True)
    assert [one.place for one in page.below(4).said] == [2]
    bodies = [
        {"role": "assistant", "content": "b", "turn_id": "t", "reasoning": "r"},
        {"role": "user", "content": "a"},
    ]
    raw = [
        word for place, body in zip((b"3", b"2"), bodies, strict=True) for word in (place, orjson.dumps(body))
    ]
    assert page_of([1, *raw]) == HistoryPage(
        [Said(3, "assistant", "b", "t", [], "r"), Said(2, "user", "a", "", [], "")], more=True
    )


def test_a_turn_s_price_is_that_of_the_model_that_answers() -> None:
    price = Price("USD", 1, 2, 3)
    stored = {b"state": b"running", b"price": priced(price, "a b").encode(), b"answered_by": b"a b"}
    assert turn_of(REF, stored).price == price
    assert turn_of(REF, {**stored, b"answered_by": b"other"}).price is None
    goes_on = turn_of(
        REF, {b"state": b"completed", b"answer": b"a_1", b"cost": str(Amount(5, "EUR")).encode()}
    )
    assert (goes_on.answer_id, goes_on.cost) == ("a_1", Amount(5, "EUR"))
    assert turn_of(REF, {b"state": b"completed"}).answer_id != "a_1"


@pytest.mark.parametrize(
    ("last", "kept", "opens"), [(999_999, 4, True), (999_999, None, False), (1_000_000, 4, False)]
)
def test_a_new_life_is_open_until_it_has_an_event(last: int, kept: int | None, opens: bool) -> None:
    assert Turn(REF, "running", 1, 1, "m", "m", 2, last, 0, kept=kept).opens_life is opens


def test_no_two_things_have_one_key() -> None:
    keys = Keys("chat")
    own, other = keys.principal("p"), keys.principal("q")
    names = [
        *vars(own).values(),
        *vars(other).values(),
        *(own.spent(period, currency) for period in ("day", "month") for currency in ("USD", "EUR")),
        *(own.usage(date) for date in ("2026-01-01", "2026-01-02")),
        *(
            own.limit(kind, shape, s)
            for kind in ("sends", "reads")
            for shape in ("fixed", "moving")
            for s in (1, 60)
        ),
        *(own.charged(once) for once in ("a", "b")),
        *(value for name, value in vars(keys).items() if name != "prefix"),
        *(of(key) for key in ("a", "b") for of in (keys.webhooks_of, keys.webhooks_said_of, keys.credential)),
        *(
            of(key)
            for key in ("a", "b")
            for of in (keys.worker_channel, keys.owned_by, keys.pace, keys.circuit)
        ),
        *(keys.pace_of(key, model) for key in ("a", "b") for model in ("m", "n")),
        *(keys.fence(number) for number in (0, 1)),
        *(keys.deadlines_near(tag) for tag in ("0", "1")),
    ]
    for one in (keys.session("p", "s"), keys.session("p", "r"), keys.session("q", "s")):
        made = (one.turn("t"), one.log("t"), one.log_copy("t"), one.idempotency("t"))
        names += [*vars(one).values(), *made] if hasattr(one, "__dict__") else [one.session, one.order, *made]
    assert len(set(names)) == len(names)


async def test_what_is_reserved_and_settled_in_money_is_counted_in_its_period() -> None:
    store = Store(Settings(_env_file=None), "host:1")
    keys = store.keys.principal("p")
    bounds = replace(Bounds(), currency="EUR")
    for call in (
        store.ledger.reserving(REF, Need(1, 1, bounds), 0, named=True),
        store.ledger.settling(REF, Booking("m", {}, currency="EUR")),
    ):
        periods = [keys.month, keys.day, keys.minute, keys.spent("month", "EUR"), keys.spent("day", "EUR")]
        assert [name for name in call.keys if name in periods] == periods
    await store.close()


async def test_a_begin_is_carried_out_while_somebody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Settings(_env_file=None, redis_timeout_seconds=2), "host:1")
    monkeypatch.setattr(store.clock, "after", lambda seconds: seconds)
    assert (store.turns.until(), store.turns.until(0.5)) == (1.9, 0.5)
    await store.close()


async def test_no_key_s_webhooks_fill_the_room_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Settings(_env_file=None), "host:1")
    asked: list[Any] = []

    async def call(asking: Any) -> int:
        asked.append(asking)
        return 1

    monkeypatch.setattr(store.scripts, "call", call)
    for of in ("", "key"):
        assert await store.webhooks.put("t", b"{}", of)
    bounds = [[one for one in asking.args if isinstance(one, int)] for asking in asked]
    assert webhooks.MOST in bounds[0]
    assert webhooks.MOST_BYTES in bounds[0]
    assert webhooks.MOST_OF_KEY in bounds[1]
    assert webhooks.MOST_BYTES_OF_KEY in bounds[1]
    assert not {webhooks.MOST, webhooks.MOST_BYTES} & {*bounds[1]}
    await store.close()
