"""The arithmetic of limits: what fits, how long a line is, and where limits stand while Redis is away."""

from __future__ import annotations

from service.engine.pacing.buckets import fitting, line, lowered, reckoned
from service.store.pacing import Bucket, Pace, Report

TOKENS = {"tpm": Bucket(6000, 1000, 60.0)}
CALLS = {"rpm": Bucket(60, 2, 60.0)}


def pace(buckets: dict[str, Bucket], blocked: float = 0.0) -> Pace:
    return Pace(1, True, [], 0.0, 0.0, blocked, True, buckets)


def asks(count: int, prompt: int = 100, completion: int = 400) -> list[tuple[int, int, float]]:
    return [(prompt, completion, 0.0)] * count


class TestFitting:
    def test_scarce_tokens_carry_many_answers_unless_the_caller_has_asked_for_more(self) -> None:
        assert fitting(TOKENS, 100, 4000, fixed=False) == 1500  # a quarter of a small limit
        assert fitting(TOKENS, 100, 4000, fixed=True) == 4000
        assert fitting({}, 100, 4000, fixed=False) == 4000

    def test_no_more_than_the_limit_lets_in_at_all_with_a_prompt_that_may_be_a_tenth_longer(self) -> None:
        assert fitting(TOKENS, 1000, 9000, fixed=True) == 4900
        assert fitting({"otpm": Bucket(300, 300, 60.0)}, 1000, 9000, fixed=True) == 300


class TestLine:
    def test_the_scarcest_limit_decides_and_none_lasts_longer_than_its_period(self) -> None:
        assert line({**TOKENS, **CALLS}, 3, 100, 1400) == 5.0
        assert line({**TOKENS, **CALLS}, 30, 100, 1400) == 28.0
        assert line(TOKENS, 1, 0, 100_000) == 60.0
        assert line({}, 30, 100, 1400) == 0.0


class TestWhileRedisIsAway:
    def test_calls_go_until_what_was_left_and_has_refilled_is_used_up(self) -> None:
        found = reckoned(pace(TOKENS), 2.0, Report(), asks(4), 0.0)
        assert len(found.granted) == 2  # 1000 and 100 a second, 500 each
        assert found.wait == 3.0
        assert not found.roomy

    def test_what_this_worker_took_and_gave_back_since_counts(self) -> None:
        assert (
            len(reckoned(pace(TOKENS), 0.0, Report(prompt=-100, completion=-600), asks(4), 0.0).granted) == 0
        )
        assert len(reckoned(pace(TOKENS), 0.0, Report(completion=500), asks(4), 0.0).granted) == 3
        assert len(reckoned(pace(CALLS), 0.0, Report(requests=-1), asks(4), 0.0).granted) == 1

    def test_a_limit_is_never_more_than_full(self) -> None:
        assert len(reckoned(pace(TOKENS), 3600.0, Report(completion=10_000), asks(20), 0.0).granted) == 12

    def test_what_the_provider_has_refused_is_waited_for(self) -> None:
        found = reckoned(pace({}), 0.0, Report(), asks(1), 7.0)
        assert (list(found.granted), found.wait, found.best) == ([], 7.0, 7.0)
        found = reckoned(pace({}, blocked=5.0), 2.0, Report(), asks(1), -1.0)
        assert (list(found.granted), found.wait) == ([], 3.0)

    def test_where_nothing_is_known_nothing_is_held_back(self) -> None:
        assert len(reckoned(None, float("inf"), Report(), asks(32), float("-inf")).granted) == 32
        assert len(reckoned(pace({}), 0.0, Report(), asks(32), 0.0).granted) == 32

    def test_a_call_larger_than_a_limit_goes_for_the_provider_to_refuse_it(self) -> None:
        assert len(reckoned(pace(TOKENS), 0.0, Report(), asks(1, completion=9000), 0.0).granted) == 1

    def test_a_limit_learned_from_a_refusal_is_kept_from_then_on(self) -> None:
        report = Report(requests=-5)  # the refused call is one of the five
        known = lowered(pace(TOKENS), 2.0, report, "rpm", 60, 3.0)
        assert known.buckets["tpm"] == TOKENS["tpm"]
        report.requests += 1  # it gives back what it took
        assert reckoned(known, 2.0, report, asks(1), 0.0).wait == 3.0
        assert len(reckoned(known, 5.0, report, asks(2), 0.0).granted) == 1

    def test_a_refusal_makes_no_room_where_less_was_known(self) -> None:
        low = pace({"rpm": Bucket(60, -30, 60.0)})
        assert lowered(low, 0.0, Report(), "rpm", 60, 3.0).buckets["rpm"].level == -30
        assert lowered(None, 0.0, Report(), "rpm", 60, 3.0).buckets["rpm"].level == -3
