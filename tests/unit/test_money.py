"""Money: exact amounts, prices from the catalogue, and what a turn's calls come to."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.config.settings import SettingsError
from service.engine.billing import billed, cost
from service.money import Amount, Price, decimal, nanos, price
from service.store.turn_records import Turn, TurnRef, _price, priced
from service.upstream.models import load_catalogue

# Of gpt-oss-20b: half a nano of rounding in each odd token of a cached prompt.
SMALL = Price("USD", 75_000, 37_500, 300_000)


def turn(**fields: Any) -> Turn:
    ref = TurnRef("p", "s", "t_1")
    return Turn(ref, "running", 1, 1, "m", "m_1", 2, 1, 0, **{"price": SMALL, **fields})


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ({"prompt_tokens": 1_000_000, "completion_tokens": 0}, 75_000_000),
        ({"prompt_tokens": 0, "completion_tokens": 1_000_000}, 300_000_000),
        ({"prompt_tokens": 1_000_000, "completion_tokens": 0, "cached_tokens": 1_000_000}, 37_500_000),
        ({"prompt_tokens": 10, "completion_tokens": 0, "cached_tokens": 1}, 713),  # 712.5
        ({"prompt_tokens": 2, "completion_tokens": 0, "cached_tokens": 9}, 75),  # no more than there is
        ({"prompt_tokens": 0, "completion_tokens": 0}, 0),
    ],
)
def test_a_call_costs_its_tokens_at_their_prices_rounded_to_a_nano(
    count: dict[str, int], expected: int
) -> None:
    assert SMALL.nanos(count) == expected


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("2.50", 2_500_000_000),
        ("0.000000001", 1),
        (3, 3_000_000_000),
        (Decimal("0.1"), 100_000_000),
    ],
)
def test_an_amount_is_exact(text: object, amount: int) -> None:
    assert nanos(text) == amount
    assert Decimal(decimal(amount)) == Decimal(str(text))


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1e9", "NaN", "inf", "0.0000000001", 0.1, True, None, "1000001"]
)
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        nanos(text)


def test_a_price_finer_than_its_unit_is_refused() -> None:
    assert price("0.000001") == 1
    with pytest.raises(ValueError, match="at most 6 decimals"):
        price("0.0000001")


def test_calls_of_several_models_each_cost_what_their_own_model_does() -> None:
    first = billed(turn(prompt_tokens=10), 5)  # 750 + 1,500
    other = Price("USD", 800_000, 400_000, 4_000_000)
    second = turn(billed=first, prompt_tokens=10, price=other)
    assert cost(second, 5) == Amount(2_250 + 28_000, "USD")


def test_one_call_without_a_known_price_makes_the_whole_turn_unknown() -> None:
    first = billed(turn(prompt_tokens=10, price=None), 5)
    assert first["prompt_tokens"] == 10
    assert cost(turn(billed=first, prompt_tokens=10), 5) is None
    # A worker of before prices has billed the first call: it said nothing of money.
    assert cost(turn(billed={"prompt_tokens": 3, "completion_tokens": 0}, prompt_tokens=10), 5) is None


def test_calls_in_two_currencies_come_to_nothing_that_is_known() -> None:
    first = billed(turn(prompt_tokens=10), 5)
    assert cost(turn(billed=first, prompt_tokens=1, price=Price("EUR", 1, 1, 1)), 5) is None


def test_a_turn_that_used_nothing_cost_nothing_whatever_its_model_costs() -> None:
    assert cost(turn(price=None), 0) == Amount(0)
    assert cost(turn(billed=billed(turn(price=None), 0), prompt_tokens=10), 5) == Amount(2_250, "USD")


def test_a_price_in_a_turn_is_that_of_the_model_that_answers() -> None:
    """A worker of before prices may have asked another model since, and left the price as it was."""
    text = priced(SMALL, "openai/gpt-oss-20b")
    assert _price(text, "openai/gpt-oss-20b") == SMALL
    assert _price(text, "qwen/qwen3.8-27b") is None
    assert _price(priced(None, "m"), "m") is None


MODEL = 'id = "m"\ncontext_window = 9\nmax_completion_tokens = 9\n'


def catalogue(tmp_path: Path, currency: str, table: str) -> Any:
    file = tmp_path / "models.toml"
    file.write_text(f"{currency}\n[[models]]\n{MODEL}{table}\n")
    return load_catalogue(file, None)


def test_prices_of_own_models_are_read_exactly(tmp_path: Path) -> None:
    found = catalogue(tmp_path, 'currency = "EUR"', "price = { input = 0.1, output = 0.3 }")
    assert found.currency == "EUR"
    assert found.default.price == Price("EUR", 100_000, 100_000, 300_000)
    assert catalogue(tmp_path, "", "").default.price is None
    assert catalogue(tmp_path, "", "price = { input = 0, output = 0 }").default.price is not None


@pytest.mark.parametrize(
    ("currency", "table", "sentence"),
    [
        ("", "price = { input = 1 }", "the price of m lacks output."),
        ("", "price = { input = -1, output = 1 }", "the price of m is wrong: an amount is a number from 0"),
        ("", "price = { input = nan, output = 1 }", "the price of m is wrong: an amount is a number from 0"),
        ("", "price = 3", "the price of m is wrong"),
        ("", "price = { input = 0.0000001, output = 1 }", "has at most 6 decimals"),
        ('currency = "Dollar"', "", "currency 'Dollar' is no code of three letters"),
    ],
)
def test_a_wrong_price_stops_the_boot_with_a_sentence(
    tmp_path: Path, currency: str, table: str, sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        catalogue(tmp_path, currency, table)


def test_every_model_that_ships_has_a_price() -> None:
    assert all(model.price for model in load_catalogue(None, None))
