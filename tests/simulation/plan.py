"""Plans: what users do and what goes wrong in one history, as data made from a seed.

A plan is a list of events, each with its time, so that a failing one can be shrunk by leaving some out. How
they are carried out is world.py's; what the provider does to a call is provider.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

#: seconds in which everything begins
SPAN: Final = 2.5
_USERS: Final = (
    "send",
    "send",
    "send",
    "send",
    "repeat",
    "repeat",
    "stop",
    "stop",
    "follow",
    "edit",
    "delete",
)
_FAULTS: Final = (
    "crash", "crash", "drain", "freeze", "cut", "hold", "stall", "lose", "trip", "trip", "trip", "trip",
)  # fmt: skip
# Scripts after which something happens to whoever asked for them, before the answer is there.
_SCRIPTS: Final = (
    "enter",
    "append",
    "append",
    "append",
    "seal",
    "seal",
    "claim",
    "settle",
    "renew",
    "release",
)
_TRIPS: Final = ("crash", "crash", "cut", "freeze", "lose")


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
    seed: int
    workers: int
    calm: bool  # nothing goes wrong but, now and then, with the provider
    kind: bool  # nor with the provider
    on_takeover: str
    max_running: int
    events: tuple[Event, ...]

    def __str__(self) -> str:
        head = (
            f"seed {self.seed}: {self.workers} workers, calm={self.calm}, kind={self.kind}, "
            f"on_takeover={self.on_takeover}, max_running={self.max_running}"
        )
        return "\n".join([head, *(f"  {event}" for event in self.events)])


def make(seed: int) -> Plan:
    chance = Random(f"plan/{seed}")
    calm = chance.random() < 0.3
    workers = chance.choice((1, 2, 2, 3))
    events = []
    for number in range(chance.randint(2, 9)):
        at = round(chance.uniform(0, SPAN) if number else 0.0, 3)
        events.append(_user(chance, at, number, workers))
    for number in range(100, 100 if calm else 100 + chance.randint(1, 4)):
        events.append(_fault(chance, round(chance.uniform(0, SPAN), 3), number, workers))
    events.sort(key=lambda event: (event.at, event.number))
    return Plan(
        seed, workers, calm, chance.random() < 0.4, chance.choice(("restart", "restart", "continue")),
        chance.choice((2, 3, 50)), tuple(events),
    )  # fmt: skip


def _user(chance: Random, at: float, number: int, workers: int) -> Event:
    kind = chance.choice(_USERS) if number else "send"
    what: dict[str, Any] = {"worker": chance.randrange(workers)}
    if kind == "send":
        what |= {
            "session": chance.choice(("a", "a", "a", "b", "c", None)), "key": chance.random() < 0.7,
            "on_busy": chance.choice(("reject", "queue", "queue", "interrupt")),
            "reads": chance.choice(("all", "all", "all", "some", "none")),
        }  # fmt: skip
    elif kind == "edit":
        what |= {
            "of": chance.randrange(number), "regenerate": chance.random() < 0.4,
            "on_busy": chance.choice(("reject", "interrupt")), "key": chance.random() < 0.5,
        }  # fmt: skip
    elif kind == "delete":
        what |= {"session": chance.choice("abc")}
    else:
        what |= {"of": chance.randrange(number)}
    return Event(at, kind, number, what)


def _fault(chance: Random, at: float, number: int, workers: int) -> Event:
    kind = chance.choice(_FAULTS)
    what: dict[str, Any] = {}
    if kind != "stall":
        what["worker"] = chance.randrange(workers)
    if kind in ("crash", "freeze"):
        what["steps"] = chance.randrange(60)
    if kind in ("freeze", "hold", "stall"):
        what["seconds"] = round(chance.choice((0.1, 0.4, 1.2, 1.8, 2.6)) * chance.uniform(0.8, 1.2), 3)
    if kind == "drain":
        what["seconds"] = round(chance.uniform(0, 1), 3)
    if kind == "lose":
        what |= {
            "since": round(max(0.0, at - chance.choice((0.02, 0.1, 0.4, 1))), 3),
            "down": chance.choice((0, 0.05, 0.6)),
        }
    if kind == "trip":
        what |= {
            "script": chance.choice(_SCRIPTS),
            "times": chance.choice((1, 1, 2, 3, 5)),
            "then": chance.choice(_TRIPS),
        }
    return Event(at, kind, number, what)
