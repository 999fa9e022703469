"""What turns cost in money: per turn, in the ledger, in budgets, metrics and log lines; unknown is not 0."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from service.money import decimal
from service.store.ledger import Bounds
from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.double import Double
from tests.integration.test_budgets import settled, usage
from tests.support.identity import bearer, make_key
from tests.support.service import Served

BIG = "openai/gpt-oss-120b"
SMALL = "openai/gpt-oss-20b"
# Nanos a token: input, output.
PRICES = {BIG: (150, 600), SMALL: (75, 300)}
PRICELESS = """
[[models]]
id = "openai/gpt-oss-120b"
context_window = 131072
max_completion_tokens = 65536
default_completion = 8192
"""


class Lines:
    """What the sealer logs, in place of its logger."""

    def __init__(self) -> None:
        self.ended: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        if event == "turn.ended":
            self.ended.append(fields)

    warning = info


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    found = Lines()
    monkeypatch.setattr("service.engine.sealing.log", found)
    return found


async def say(served: Served, wish: str, **body: Any) -> dict[str, Any]:
    """The turn, once it has ended."""
    answer = await served.client.post("/v1/sessions/s/turns", json={"content": f"[[{wish}]]", **body})
    assert answer.status_code == 200, answer.text
    path = f"/v1/sessions/s/turns/{answer.headers['x-turn-id']}"
    found: dict[str, Any] = (await served.client.get(path)).json()
    return found


def cost_of(turn: dict[str, Any], model: str) -> str:
    entry, output = PRICES[model]
    used = turn["usage"]
    return decimal(used["prompt_tokens"] * entry + used["completion_tokens"] * output)


async def metrics_of(served: Served, name: str) -> dict[str, float]:
    lines = (await served.client.get("/metrics")).text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(name)}


async def test_nothing_was_paid_for_answers_of_the_demo_model(start: Start, lines: Lines) -> None:
    async with start(upstream_kind="demo", budget_money_per_day="0.000000001") as served:
        before = await metrics_of(served, "chat_cost_total")  # other tests of this process have paid
        for wish in ("tokens=40", "tokens=2"):
            assert (await say(served, wish))["cost"] == {"USD": "0"}
        found = await settled(served, 2)
        [day] = found["data"]
        assert (day["cost"], day["turns"], "unpriced_turns" in day) == ({}, 2, False)
        assert found["money"]["day"]["used"] == "0"
        assert await metrics_of(served, "chat_cost_total") == before
        assert {line["cost_nanos"] for line in lines.ended} == {0}


async def test_a_turn_says_what_it_cost_and_the_ledger_has_the_sum(served: Served) -> None:
    turns = [await say(served, "tokens=5"), await say(served, "tokens=40", model=SMALL)]
    assert [turn["cost"] for turn in turns] == [
        {"USD": cost_of(turns[0], BIG)},
        {"USD": cost_of(turns[1], SMALL)},
    ]
    found = await settled(served, 2)
    assert {row["model"]: row["cost"] for row in found["data"]} == {
        BIG: turns[0]["cost"],
        SMALL: turns[1]["cost"],
    }
    assert all("unpriced_turns" not in row for row in found["data"])


async def test_cached_tokens_cost_what_cached_tokens_do(served: Served) -> None:
    turn = await say(served, "tokens=1 cached=10")
    cached = turn["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == 10
    assert Decimal(turn["cost"]["USD"]) == Decimal(cost_of(turn, BIG)) - Decimal(cached * 75) / 10**9


async def test_a_call_that_a_fallback_repeats_is_priced_by_who_was_asked(served: Served) -> None:
    turn = await say(served, "tokens=4 fault=cut after=0 times=2")
    assert turn["attempt"] == 3
    asked = [BIG, BIG, SMALL]  # cut, cut, and then the fallback
    prompts = turn["usage"]["prompt_tokens"]
    assert turn["state"] == "completed"
    (row,) = (await settled(served, 1))["data"]
    assert row["cost"] == turn["cost"]
    least, most = (PRICES[asked[-1]][0], PRICES[asked[0]][0])
    output = turn["usage"]["completion_tokens"] * PRICES[asked[-1]][1]
    assert prompts * least + output < int(Decimal(turn["cost"]["USD"]) * 10**9) < prompts * most + output


async def test_what_has_no_price_is_unknown_and_never_nothing(
    start: Start, tmp_path: Path, lines: Lines
) -> None:
    file = tmp_path / "models.toml"
    file.write_text(PRICELESS)
    async with start(models_file=file) as served:
        before = await metrics_of(served, "chat_cost_total")
        turn = await say(served, "tokens=5")
        (row,) = (await settled(served, 1))["data"]
        assert turn["cost"] is None
        assert (row["cost"], row["unpriced_turns"]) == (None, 1)
        (line,) = lines.ended
        assert (line["cost_nanos"], line["currency"]) == (None, None)
        assert await metrics_of(served, "chat_cost_total") == before
        name = f'chat_unpriced_turns_total{{model="{BIG}"}}'
        assert (await metrics_of(served, "chat_unpriced_turns_total"))[name] >= 1


async def test_metrics_and_the_turns_line_have_the_cost(served: Served, lines: Lines) -> None:
    name = f'chat_cost_total{{currency="USD",model="{BIG}"}}'
    before = (await metrics_of(served, "chat_cost_total")).get(name, 0)
    turn = await say(served, "tokens=30")
    await settled(served, 1)
    nanos = int(Decimal(turn["cost"]["USD"]) * 10**9)
    (line,) = lines.ended
    assert (line["cost_nanos"], line["currency"]) == (nanos, "USD")
    after = (await metrics_of(served, "chat_cost_total"))[name]
    assert after - before == pytest.approx(nanos / 10**9, rel=1e-6)


async def test_a_turn_of_before_prices_is_booked_as_unknown(start: Start, store: redis.Redis) -> None:
    """Sealed by a worker that knew none, booked by one that does."""
    async with start() as served:
        ledger = served.app.state.edge.engine.store.ledger
        ref = TurnRef("none.anonymous", "s", "t_old")
        await ledger.reserve(ref, 1, 1, Bounds())
        assert await ledger.settle(ref, BIG, {"prompt_tokens": 9, "completion_tokens": 1})
        (row,) = (await usage(served))["data"]
        assert (row["cost"], row["unpriced_turns"]) == (None, 1)


# Budgets in money


async def test_a_budget_in_money_refuses_when_it_is_used_up(start: Start) -> None:
    async with start(budget_money_per_day="0.0003") as served:  # 500 tokens of an answer
        turn = await say(served, "tokens=440")
        money = (await settled(served, 1))["money"]
        assert money["currency"] == "USD"
        assert money["day"] == {
            "limit": "0.0003",
            "used": turn["cost"]["USD"],
            "reserved": "0",
            "resets_at": money["day"]["resets_at"],
        }
        assert money["month"]["limit"] is None
        refused = await served.client.post("/chat", json={"user_query": "[[tokens=1]]"})
        body = refused.json()
        assert (refused.status_code, body["code"]) == (429, "budget_exhausted")
        assert body["detail"].startswith("The budget of 0.0003 USD a day is used up; there is room again in ")
        assert refused.headers["x-should-retry"] == "false"


async def test_an_answer_is_cut_to_what_the_money_is_enough_for(start: Start, double: Double) -> None:
    async with start(budget_money_per_month="0.0006") as served:
        turn = await say(served, "tokens=5000")
        assert turn["finish_reason"] == "length"
        money = (await settled(served, 1))["money"]["month"]
        assert Decimal("0.0005") < Decimal(money["used"]) <= Decimal("0.0006")


async def test_a_cheaper_model_gets_more_for_the_same_money(start: Start, double: Double) -> None:
    async with start(budget_money_per_month="0.0006") as served:
        await say(served, "tokens=5000", model=SMALL)
        assert orjson.loads(list(double.calls)[-1].body)["max_completion_tokens"] > 1_600


async def test_fifty_at_once_do_not_spend_more_than_there_is(start: Start) -> None:
    async with start(lease_seconds=300) as served:
        ledger = served.app.state.edge.engine.store.ledger
        price = served.app.state.edge.engine.catalogue.default.price
        bounds = Bounds(day_money=100_000_000, price=price)  # 8,192 x 600 nanos each, and the prompt
        for number in range(50):
            await ledger.reserve(TurnRef("none.anonymous", "s", f"t_{number}"), 100, 8_192, bounds)
        money = (await usage(served))["money"]["day"]
        assert Decimal("0.0996") < Decimal(money["reserved"]) <= Decimal("0.1")
        refused = await ledger.reserve(TurnRef("none.anonymous", "s", "t_51"), 100, 8_192, bounds)
        assert (refused.by, refused.wait) == ("day_money", 0)


async def test_what_money_is_reserved_comes_back_with_the_turn(start: Start, store: redis.Redis) -> None:
    async with start(lease_seconds=300) as served:
        ledger = served.app.state.edge.engine.store.ledger
        price = served.app.state.edge.engine.catalogue.default.price
        bounds = Bounds(day_money=10**9, price=price)
        refs = [TurnRef("none.anonymous", "s", f"t_{number}") for number in range(2)]
        for ref in refs:
            await ledger.reserve(ref, 100, 1_000, bounds)
        held = "chat:{none.anonymous}:held"
        assert store.get(held) == "2 2200 1230000"
        store.zadd("chat:{none.anonymous}:running", {"t_0": 1}, xx=True)  # it lapses, and comes back
        await ledger.reserve(TurnRef("none.anonymous", "s", "t_2"), 0, 100, bounds)
        assert store.get(held) == "2 1200 675000"
        await ledger.hold(refs[:1])
        assert store.get(held) == "3 2300 1290000"
        for ref in (*refs, TurnRef("none.anonymous", "s", "t_2")):
            await ledger.settle(ref, "", {})
        assert store.get(held) == "0 0"
        assert not store.exists("chat:{none.anonymous}:reserved")


async def test_under_a_budget_in_money_a_model_without_a_price_is_refused(
    start: Start, tmp_path: Path, double: Double
) -> None:
    file = tmp_path / "models.toml"
    file.write_text(PRICELESS)
    async with start(models_file=file, budget_money_per_day="5") as served:
        refused = await served.client.post("/chat", json={"user_query": "Hello"})
        assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
        assert refused.json()["detail"] == (
            "The budget is in money, and nobody knows what openai/gpt-oss-120b costs; take another model."
        )
        assert list(double.calls) == []


async def test_a_turn_whose_cost_nobody_knows_takes_what_was_reserved_from_the_budget(served: Served) -> None:
    ledger = served.app.state.edge.engine.store.ledger
    price = served.app.state.edge.engine.catalogue.default.price
    ref = TurnRef("none.anonymous", "s", "t_1")
    await ledger.reserve(ref, 100, 1_000, Bounds(day_money=10**9, price=price))
    assert await ledger.settle(ref, BIG, {"prompt_tokens": 9, "completion_tokens": 1})
    assert (await usage(served))["money"]["day"]["used"] == "0.000615"


async def test_a_key_may_have_a_budget_in_money_of_its_own(start: Start) -> None:
    async with start(auth="keys", budget_money_per_month="9") as served:
        small = bearer(await make_key(served, budget_money_per_month=100_000))
        assert (await usage(served, small))["money"]["month"]["limit"] == "0.0001"
        assert (await usage(served, bearer(await make_key(served))))["money"]["month"]["limit"] == "9"
        refused = await served.client.post("/chat", json={"user_query": "word " * 900}, headers=small)
        assert refused.json()["detail"] == (
            "The budget of 0.0001 USD a month is smaller than this message needs."
        )
