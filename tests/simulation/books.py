"""The books: places, reservations, bills and the ledger, as exact as what is known of each call allows.

A turn that one owner has run to its end is billed to the token: what the provider reported of a call, else
the prompt's estimate and the words that its runner was given. Where an owner died in the middle of a call,
or was interrupted, its bill lies between what is in the log and what was given. What calls said is
provider.py's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service import events
from service.events import Event
from tests.simulation.provider import PROMPT_NANOS, PROMPT_TOKENS, WORD_NANOS, Call

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

Range = tuple[int, int]


def cost_of(usage: Mapping[str, int]) -> int:
    """Nanos, whichever model has answered; every call is whole tokens, so that nothing is rounded."""
    return usage["prompt_tokens"] * PROMPT_NANOS + usage["completion_tokens"] * WORD_NANOS


class Books:
    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._prompts: dict[str, set[int]] = {}  # estimates that a turn's attempts have noted

    # Places

    def reserved(self, given: Mapping[str, Any], reply: Any) -> None:
        """By reserve.lua, which was given this."""
        oracle, turn_id = self._oracle, given["turn_id"]
        places = oracle.settings.max_running_turns_per_principal
        running = oracle.redis.value(given["running"])
        taken = len(running) if running else 0
        living = sum(1 for end in running._bylex.values() if end > oracle.now_ms()) if running else 0
        if reply[0] == b"OK" and oracle.kept.settled.get(turn_id.decode()) is False:
            del oracle.kept.settled[turn_id.decode()]  # given back before it began, and reserved anew
        if reply[0] == b"OK" and oracle.calm and taken > places:
            oracle.broken("more turns run than their principal may have", taken, turn_id)
        if reply[0] == b"TURNS" and living < places:
            oracle.broken("a place was refused while one was free", living, turn_id)

    # Bills

    def noted(self, turn_id: str, held: dict[bytes, bytes]) -> None:
        """An append has said what a call that is about to be made will cost."""
        if prompt := int(held.get(b"prompt_tokens", b"0")):
            self._prompts.setdefault(turn_id, set()).add(prompt)

    def sealed(self, turn_id: str, held: dict[bytes, bytes], log: list[Event], usage: dict[str, Any]) -> None:
        oracle = self._oracle
        oracle.kept.bills[turn_id] = usage
        if (amount := held.get(b"cost", b"").decode().split(" ")[0]) != str(cost_of(usage)):
            oracle.broken("a turn costs something else than its tokens", turn_id, amount, usage)
        calls = oracle.provider.of(turn_id)
        logged = sum(event.text.count(" ") for event in log if event.name == events.DELTA)
        whole = held[b"state"] == b"completed"
        if held[b"epoch"] == b"1" and not oracle.losses:
            ranges = [self._of(call, whole=whole) for call in calls if call.billable]
            prompt = sum(one[0][0] for one in ranges), sum(one[0][1] for one in ranges)
            completion = sum(one[1][0] for one in ranges), sum(one[1][1] for one in ranges)
            if not whole:
                completion = min(logged, completion[0]), completion[1]
        else:
            most = max({PROMPT_TOKENS, *self._prompts.get(turn_id, ())})
            prompt = 0, most * int(held[b"attempt"])
            completion = logged, sum(len(call.given) for call in calls)
        for name, (least, top) in (("prompt_tokens", prompt), ("completion_tokens", completion)):
            if not least <= usage[name] <= top:
                oracle.broken("a bill is wrong", turn_id, name, usage[name], (least, top))
        if not oracle.losses and len(calls) > oracle.settings.max_attempts:
            oracle.broken("more attempts than allowed", turn_id)

    def _of(self, call: Call, *, whole: bool) -> tuple[Range, Range]:
        """What the prompt and the answer of a call cost at least and at most."""
        estimates = self._prompts.get(call.turn_id, {PROMPT_TOKENS})
        given = len(call.given)
        if whole:
            prompts = {PROMPT_TOKENS} if call.reported else estimates
            return (min(prompts), max(prompts)), (given, given)
        prompts = estimates | ({PROMPT_TOKENS} if call.reported else set())
        return (min(prompts), max(prompts)), (0, given)  # of what came behind its interruption nobody knows

    def settled(self, given: Mapping[str, Any]) -> None:
        oracle = self._oracle
        turn_id, booked = given["turn_id"].decode(), given["model"] != b""
        begun = any(key.endswith(given["turn_id"]) for key in oracle.kept.turns)
        if begun and not booked and not oracle.losses:
            oracle.broken("what a turn holds was given up while it runs", turn_id)
        if turn_id in oracle.kept.settled:
            oracle.broken("a turn was settled twice", turn_id)
        oracle.kept.settled[turn_id] = booked
        bill = oracle.kept.bills.get(turn_id)
        if bill is None:
            if booked and begun and not oracle.losses:
                oracle.broken("a turn was booked before it ended", turn_id)
        elif not oracle.losses and (int(given["prompt_tokens"]), int(given["completion_tokens"])) != (
            bill["prompt_tokens"],
            bill["completion_tokens"],
        ):
            oracle.broken("what was booked is not what the turn has used", turn_id, given, bill)

    # The ledger

    def at_the_end(self) -> None:
        oracle = self._oracle
        if oracle.losses:
            return
        booked: Counter[str] = Counter()
        spent: dict[str, int] = {}
        for key in oracle.redis.names():
            if b":usage:" in key and not key.endswith(b"principals"):
                for name, value in oracle.redis.hash(key).items():
                    booked[name.decode().split(" ")[0]] += int(value)
            elif b":budget:" in key:
                spent[key.decode().rpartition(":")[2]] = int(oracle.redis.value(key))
        bills = [oracle.kept.bills[turn] for turn in oracle.kept.settled if turn in oracle.kept.bills]
        wanted: Counter[str] = Counter()
        for bill in bills:
            wanted.update(turns=1, prompt_tokens=bill["prompt_tokens"])
            wanted.update(completion_tokens=bill["completion_tokens"], priced_turns=1)
            wanted["cost:USD"] += cost_of(bill)
        if booked != wanted:
            oracle.broken("the ledger is not the sum of the turns", dict(booked), dict(wanted))
        tokens = wanted["prompt_tokens"] + wanted["completion_tokens"]
        if any(spent.get(period, 0) != tokens for period in ("day", "month")):
            oracle.broken("a budget has not what the turns have used", spent, tokens)
