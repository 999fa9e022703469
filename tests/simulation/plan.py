"""Plans: what users do and what goes wrong in one history, as data made from a seed.

A plan is a list of events, each with its time, so that a failing one can be shrunk by leaving some out. It
joins one or two ways in which users behave with up to three ways in which things go wrong, most of them
where it hurts: at the worker that answers, while it does. How events are carried out is world.py's; what
the provider does to a call is provider.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

# Kind, seconds after the way's own beginning, what it is told.
_Step = tuple[str, float, dict[str, Any]]

# Scripts after which something happens to whoever asked for them, before the answer is there.
_SCRIPTS: Final = (
    "enter",
    "append",
    "append",
    "finish",
    "finish",
    "seal",
    "claim",
    "claim",
    "leave",
    "renew",
    "release",
    "free_session",
    "stop",
    "begin",
    "hold",
)
_TRIPS: Final = ("crash", "crash", "crash", "cut", "freeze", "lose")


@dataclass(frozen=True)
class Event:
    at: float
    kind: str
    number: int  # its own, also when others are left out
    what: dict[str, Any]

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.what.items())
        return f"{self.at:6.3f} s  #{self.number:<3} {self.kind:8} {told}"


@dataclass(frozen=True)
class Plan:
    """`calm`: nothing goes wrong but, now and then, with the provider; `kind`: nor with that.

    `slow`: answers are long, so that more happens while they are given.
    """

    seed: int
    workers: int
    calm: bool
    kind: bool
    slow: bool
    on_takeover: str
    max_running: int
    events: tuple[Event, ...]

    def __str__(self) -> str:
        head = (
            f"seed {self.seed}: {self.workers} workers, calm={self.calm}, kind={self.kind}, "
            f"slow={self.slow}, on_takeover={self.on_takeover}, max_running={self.max_running}"
        )
        return "\n".join([head, *(f"  {event}" for event in self.events)])


def make(seed: int) -> Plan:
    chance = Random(f"plan/{seed}")
    calm = chance.random() < 0.25
    workers = chance.choice((1, 2, 2, 3, 3))
    main = chance.randrange(workers)
    events: list[Event] = []

    def worker() -> int:
        return main if chance.random() < 0.6 else chance.randrange(workers)

    def add(steps: list[_Step], begin: float, first: int) -> None:
        for number, (kind, after, what) in enumerate(steps, first):
            what = dict(what)
            if "of" in what:
                what["of"] += first
            events.append(Event(round(begin + after, 3), kind, number, {"worker": worker(), **what}))

    for way in range(chance.choice((1, 1, 2))):
        add(chance.choice(_USERS)(chance), chance.uniform(0, 0.5) if way else 0.0, 20 * way)
    for way in range(0 if calm else chance.choice((1, 1, 2, 2, 3))):
        add(chance.choice(_FAULTS)(chance, main, workers), chance.uniform(0, 1.6), 100 + 20 * way)
    events.sort(key=lambda event: (event.at, event.number))
    return Plan(
        seed,
        workers,
        calm,
        chance.random() < 0.6,
        chance.random() < 0.5,
        chance.choice(("restart", "restart", "continue")),
        chance.choice((2, 3, 50)),
        tuple(events),
    )


# Users


def _send(chance: Random, session: str | None, **what: Any) -> dict[str, Any]:
    return {
        "session": session,
        "key": chance.random() < 0.7,
        "on_busy": chance.choice(("reject", "queue", "interrupt")),
        "reads": chance.choice(("all", "all", "all", "some", "none")),
        **what,
    }


def _edit(chance: Random, of: int) -> dict[str, Any]:
    return {
        "of": of,
        "regenerate": chance.random() < 0.4,
        "on_busy": chance.choice(("reject", "interrupt")),
        "key": chance.random() < 0.5,
    }


def _one(chance: Random) -> list[_Step]:
    """A send, and what may follow: a stop, repeats, another reader."""
    steps: list[_Step] = [("send", 0.0, _send(chance, chance.choice(("a", None)), key=True))]
    for _ in range(chance.randint(0, 4)):
        kind = chance.choice(("stop", "repeat", "repeat", "follow"))
        steps.append((kind, chance.uniform(0, 2), {"of": 0}))
    return steps


def _twins(chance: Random) -> list[_Step]:
    """The same send at the same moment, again and again."""
    steps: list[_Step] = [("send", 0.0, _send(chance, chance.choice(("a", None)), key=True))]
    return steps + [("repeat", chance.uniform(0, 0.02), {"of": 0}) for _ in range(3)]


def _talk(chance: Random) -> list[_Step]:
    """One question after the other in a session, some of them edited, some too early."""
    steps: list[_Step] = [("send", 0.0, _send(chance, "a"))]
    for number in range(1, chance.randint(3, 6)):
        at = number * chance.uniform(0.1, 0.6)
        kind = chance.choice(("send", "send", "edit", "edit", "stop"))
        of = chance.randrange(number)
        what = _send(chance, "a") if kind == "send" else _edit(chance, of) if kind == "edit" else {"of": of}
        steps.append((kind, at, what))
    return steps


def _queue(chance: Random) -> list[_Step]:
    """More questions than may wait, and stops of some that wait."""
    steps: list[_Step] = [
        ("send", chance.uniform(0, 0.3) if number else 0.0, _send(chance, "a", on_busy="queue"))
        for number in range(chance.randint(2, 5))
    ]
    for _ in range(chance.randint(0, 2)):
        steps.append(("stop", chance.uniform(0.1, 1.5), {"of": chance.randrange(len(steps))}))
    return steps


def _crowd(chance: Random) -> list[_Step]:
    """More answers at once than their principal, or their worker, may have."""
    return [("send", chance.uniform(0, 0.2), _send(chance, f"c{number}")) for number in range(6)]


def _clean(chance: Random) -> list[_Step]:
    """Sessions are deleted while they answer."""
    steps: list[_Step] = [
        ("send", 0.0, _send(chance, "a")),
        ("send", 0.3, _send(chance, "a", on_busy="queue")),
    ]
    steps += [("delete", chance.uniform(0, 2), {"session": "a"}) for _ in range(chance.randint(1, 2))]
    return [*steps, ("send", chance.uniform(0, 2), _send(chance, "a"))]


_USERS: Final[tuple[Callable[[Random], list[_Step]], ...]] = (
    _one,
    _one,
    _twins,
    _talk,
    _talk,
    _queue,
    _queue,
    _crowd,
    _clean,
)


# What goes wrong: `main` is the worker at which most is asked.


def _ends(chance: Random, main: int, workers: int) -> list[_Step]:
    """The worker dies, once or again and again, or leaves."""
    steps: list[_Step] = []
    for number in range(chance.choice((1, 1, 1, 2, 4))):
        at, where = number * chance.uniform(0.5, 1.6), (main + number) % workers
        if chance.random() < 0.6:
            steps.append(("crash", at, {"worker": where, "steps": chance.randrange(60)}))
        else:
            steps.append(("drain", at, {"worker": where, "seconds": round(chance.uniform(0, 0.6), 3)}))
    return steps


def _stands(chance: Random, main: int, workers: int) -> list[_Step]:
    """The worker stands still, or hears nothing, mostly for longer than its lease."""
    seconds = round(chance.choice((0.3, 1.2, 1.5, 2.0, 2.6)) * chance.uniform(0.9, 1.1), 3)
    kind = chance.choice(("freeze", "freeze", "hold"))
    return [(kind, 0.0, {"worker": main, "seconds": seconds, "steps": chance.randrange(60)})]


def _sleeps_and_leaves(chance: Random, main: int, workers: int) -> list[_Step]:
    """The worker stands still past its lease, and is told to leave when it wakes."""
    seconds = round(chance.uniform(1.3, 2.0), 3)
    steps: list[_Step] = [
        ("freeze", 0.0, {"worker": main, "seconds": seconds, "steps": chance.randrange(60)})
    ]
    return [*steps, ("drain", seconds - 0.1, {"worker": main, "seconds": 0.0})]


def _loses(chance: Random, main: int, workers: int) -> list[_Step]:
    """The store forgets what it has acknowledged a moment before."""
    return [("lose", 0.0, _loss(chance, chance.choice((0.01, 0.05, 0.2, 0.6))))]


def _loses_a_claim(chance: Random, main: int, workers: int) -> list[_Step]:
    """The worker stands still, another takes over, and the store forgets that: a third one takes over."""
    steps: list[_Step] = [("freeze", 0.0, {"worker": main, "seconds": 2.6, "steps": chance.randrange(60)})]
    at = chance.uniform(1.2, 1.9)
    return [*steps, ("lose", at, {"back": round(at - 0.15, 3), "down": 0})]


def _loss(chance: Random, back: float) -> dict[str, Any]:
    return {"back": round(back, 3), "down": chance.choice((0, 0, 0.05, 0.6))}


def _evicts(chance: Random, main: int, workers: int) -> list[_Step]:
    """The store evicts a session while it answers, and an older question of it is edited at once."""
    session, at = f"e{chance.randrange(1000)}", chance.uniform(0.6, 2.5)
    steps: list[_Step] = [
        ("send", 0.0, _send(chance, session)),
        ("send", at, _send(chance, session, on_busy="reject")),
    ]
    return [*steps, ("evict", at + chance.uniform(0.1, 0.6), {**_edit(chance, 0), "must_exist": False})]


def _trips(chance: Random, main: int, workers: int) -> list[_Step]:
    """A script is carried out, and whoever asked for it does not hear of it."""
    what = {
        "script": chance.choice(_SCRIPTS),
        "times": chance.choice((1, 1, 2, 4)),
        "then": chance.choice(_TRIPS),
    }
    return [("trip", -1.0, what)]


def _network(chance: Random, main: int, workers: int) -> list[_Step]:
    return [("cut", 0.0, {"worker": main})]


def _stalls(chance: Random, main: int, workers: int) -> list[_Step]:
    """The store stands still, and the worker may leave meanwhile."""
    seconds = round(chance.choice((0.1, 0.4, 0.8, 1.5, 2.5)) * chance.uniform(0.8, 1.2), 3)
    steps: list[_Step] = [("stall", 0.0, {"seconds": seconds})]
    if chance.random() < 0.5:
        steps.append(("drain", chance.uniform(0, seconds), {"worker": main, "seconds": 0.1}))
    return steps


_FAULTS: Final[tuple[Callable[[Random, int, int], list[_Step]], ...]] = (
    _ends,
    _ends,
    _stands,
    _stands,
    _sleeps_and_leaves,
    _loses,
    _loses_a_claim,
    _evicts,
    _trips,
    _trips,
    _trips,
    _network,
    _stalls,
)
