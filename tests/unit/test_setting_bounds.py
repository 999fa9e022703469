"""Each number among the settings is taken up to its bounds, and no further."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import ValidationError

from service.config.settings import Settings

_TEN_YEARS: Final = 315_360_000
# The least and the most; None where there is none. `above`: the least itself is too little.
BOUNDS: Final[dict[str, tuple[float, float | None]]] = {
    "port": (0, 65_535),
    "workers": (1, 256),
    "max_requests": (0, None),
    "metrics_port": (1, 65_535),
    "drain_seconds": (1, 3_600),
    "drain_delay_seconds": (0, 300),
    "redis_wait_replicas": (0, 10),
    "redis_wait_seconds": (0.01, 1),
    "session_ttl_seconds": (1, _TEN_YEARS),
    "ephemeral_ttl_seconds": (1, _TEN_YEARS),
    "log_ttl_seconds": (1, _TEN_YEARS),
    "idempotency_ttl_seconds": (1, _TEN_YEARS),
    "retry_budget_seconds": (0, _TEN_YEARS),
    "max_attempts": (1, 20),
    "lease_seconds": (0.5, 300),
    "flush_window_seconds": (0, 1),
    "max_body_bytes": (1_024, None),
    "max_image_bytes": (1_024, 20_971_520),
    "max_image_body_bytes": (1_024, 33_554_432),
    "max_queued_turns": (0, 1_000),
    "max_versions": (0, 50),
    "max_running_turns": (1, None),
    "jwt_leeway_seconds": (0, 600),
    "max_running_turns_per_principal": (0, None),
    "max_open_streams_per_principal": (0, None),
    "max_sessions_per_principal": (0, None),
    "max_stored_bytes_per_principal": (0, None),
    "budget_tokens_per_minute": (0, None),
    "budget_tokens_per_day": (0, None),
    "budget_tokens_per_month": (0, None),
}
ABOVE: Final[dict[str, tuple[float, float | None]]] = {
    "redis_timeout_seconds": (0, 2.5),
    "store_hold_seconds": (0, 600),
    "first_token_timeout_seconds": (0, _TEN_YEARS),
    "idle_timeout_seconds": (0, _TEN_YEARS),
    "turn_timeout_seconds": (0, _TEN_YEARS),
    "orphan_seconds": (0, _TEN_YEARS),
    "hold_seconds": (0, _TEN_YEARS),
    "heartbeat_seconds": (0, 120),
}


def wrong(name: str, value: float) -> bool:
    """For itself: beside others it may be wrong all the same."""
    given: dict[str, Any] = {name: value}
    try:
        Settings(_env_file=None, **given)
    except ValidationError as error:
        return any(one["loc"] == (name,) for one in error.errors())
    return False


@pytest.mark.parametrize("name", [*BOUNDS, *ABOVE])
def test_a_number_is_taken_within_its_bounds(name: str) -> None:
    least, most = (BOUNDS | ABOVE)[name]
    assert wrong(name, least) is (name in ABOVE)
    assert wrong(name, least - 1)
    assert not wrong(name, least + (0.5 if name in ABOVE else 0))
    if most is not None:
        assert not wrong(name, most)
        assert wrong(name, most + 1)


def test_every_setting_with_a_bound_is_among_them() -> None:
    bounded = {
        name
        for name, field in Settings.model_fields.items()
        if any(hasattr(one, word) for one in field.metadata for word in ("ge", "gt", "le", "lt"))
    }
    assert bounded == set(BOUNDS) | set(ABOVE)
