"""What a token costs an encoder, against the native one, in pairs: a busy machine cannot spoil them all."""

from __future__ import annotations

import pytest

from tests.load.frames import STREAMS, nanoseconds


@pytest.mark.alone
def test_a_token_costs_responses_little_more_than_native_events() -> None:
    pairs = []
    for _ in range(20):
        pairs.append(nanoseconds(STREAMS["responses"], 3) / nanoseconds(STREAMS["native"], 3))
        if pairs[-1] <= 1.2:
            return
    pytest.fail(f"responses / native: {pairs}")
