"""P7: however turns end, the ledger is what the double was asked for, to the token and to the nano."""

from __future__ import annotations

import pytest

from tests.fault.conftest import Launch
from tests.fault.ledger import ENDINGS, SETTINGS, Book
from tests.support.readers import client
from tests.support.upstream import DoubleProcess

pytestmark = pytest.mark.fault


@pytest.mark.timeout(240)
async def test_the_ledger_is_what_the_double_was_asked_for(launch: Launch, upstream: DoubleProcess) -> None:
    """Each ending once; `python -m tests.fault.report --only ledger` has 1,000 turns."""
    replicas = [launch(**SETTINGS), launch(**SETTINGS)]
    async with client() as http:
        told = await Book(http, replicas, upstream).run(len(ENDINGS))
    assert told.wrong == []
    assert told.double == told.turns == told.ledger
    assert told.double["prompt_tokens"] > 0
    assert len(set(told.cost.values())) == 1, told.cost
    assert told.cost["double"] > 0
    assert told.budget == told.ledger["prompt_tokens"] + told.ledger["completion_tokens"]
