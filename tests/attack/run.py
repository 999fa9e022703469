"""One attacker after the other beside the tenant, and what is made of it: a `Row` of the table.

The rule: no request of the tenant fails, its p99 stays under 250 ms or three times its own p99
right before the attack, whichever is larger; nothing takes more memory than its limit in
docker-compose.yml; no replica calls itself unready, no log has a traceback or a 500, and what
the attacker was to be told is what it was told.
"""

from __future__ import annotations

import json
import math
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.attack import callers, costs, strangers
from tests.attack.attack import ATTACKERS, Attacker, Context
from tests.attack.stand import Size, Stand, Watch, limits, settle
from tests.support.processes import ROOT

#: importing these registers their attackers
MODULES: Final = (strangers, callers, costs)

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Sample:
    """One request of the tenant: when it began, how long it took, what was wrong with it."""

    at: float
    kind: str
    seconds: float
    wrong: str


@dataclass(frozen=True)
class Plan:
    """Seconds of quiet that are measured before an attack, and of the attack; and the rule about time.

    The tenant's p99 may be `floor` s, or `times` its own before, whichever is larger. `pace` is the
    part of an attacker's requests a second that it makes.
    """

    size: Size
    quiet: float
    attack: float
    patient: float
    pace: float = 1.0
    floor: float = 0.25
    times: float = 3.0


@dataclass
class Row:
    attacker: Attacker
    plan: Plan
    made: int = 0
    refused: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    before: list[Sample] = field(default_factory=list)
    during: list[Sample] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Sample]:
        return [sample for sample in self.during if sample.wrong]

    @property
    def bound(self) -> float:
        return max(self.plan.floor, self.plan.times * quantile(self.before, 0.99))

    @property
    def late(self) -> bool:
        return quantile(self.during, 0.99) > self.bound

    def faults(self) -> list[str]:
        """What of the rule did not hold, the time apart."""
        found = [f"failed: {sample.kind} {sample.wrong}" for sample in self.failed]
        found += [
            f"{name} has {self.peaks[name] >> 20} MiB of {limit >> 20}"
            for name, limit in limits().items()
            if self.peaks[name] > limit
        ]
        found += [] if self.during else ["the tenant asked nothing"]
        return found + self.broken

    def verdict(self) -> list[str]:
        """All that did not hold; empty is a pass."""
        p99 = quantile(self.during, 0.99)
        late = [f"p99 {p99 * 1e3:.0f} ms over {self.bound * 1e3:.0f} ms"] if self.late else []
        return late + self.faults()


def quantile(samples: list[Sample], share: float) -> float:
    """Of the requests that did not fail: the smallest time that so many of them did not exceed."""
    ordered = sorted(sample.seconds for sample in samples if not sample.wrong)
    return ordered[math.ceil(len(ordered) * share) - 1] if ordered else 0.0


class TenantProcess:
    """The tenant, and what it has said so far."""

    def __init__(self, stand: Stand, name: str) -> None:
        told = json.dumps({"port": stand.nginx.port, "key": stand.key(name), "name": name})
        self._process = _python("tests.attack.tenant", told)
        self._samples: list[Sample] = []
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._samples.append(Sample(**json.loads(line)))

    def between(self, begin: float, end: float) -> list[Sample]:
        """Of the requests that began between two moments (s, CLOCK_MONOTONIC)."""
        return [sample for sample in list(self._samples) if begin <= sample.at < end]

    def wait_for(self, moment: float, seconds: float) -> None:
        """Until a request that began after this moment has ended: then the earlier ones have, or are late."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.between(moment, float("inf")):
            assert self._process.poll() is None, "the tenant's process has ended"
            time.sleep(0.05)  # between two looks, within `seconds`

    def close(self) -> None:
        self._process.kill()
        self._listening.join(10)  # it ends with what the process has said
        _end(self._process)


class Arena:
    """A stand and its tenant, new ones after an attack that broke something: one fault shows once."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self._directory = directory
        self._plan = plan
        self._stand: Stand | None = None
        self._tenant: TenantProcess | None = None
        self._number = 0

    def _ready(self) -> tuple[Stand, TenantProcess]:
        if self._stand is None or self._tenant is None:
            self._stand = self._new_stand()
            self._tenant = TenantProcess(self._stand, "tenant")
            # Connections are open, code is loaded, each session has something.
            self._tenant.wait_for(time.monotonic() + 3, _START_SECONDS)
        return self._stand, self._tenant

    def _new_stand(self) -> Stand:
        self._number += 1
        folder = self._directory / f"stand-{self._number}"
        with suppress(AssertionError):
            return Stand(folder / "first", self._plan.size)
        # A process was not ready in time: the machine was busy elsewhere. A second time it counts.
        return Stand(folder / "second", self._plan.size)

    def close(self) -> None:
        if self._tenant is not None:
            self._tenant.close()
        if self._stand is not None:
            self._stand.close()
        self._tenant = self._stand = None

    def attack(self, attacker: Attacker, place: int) -> Row:
        stand, tenant = self._ready()
        settle(stand, self._plan.quiet)
        stand.trouble()
        row = Row(attacker, self._plan)
        seconds = self._plan.patient if attacker.patient else self._plan.attack
        context = Context(
            stand.nginx.port,
            [replica.port for replica in stand.replicas],
            stand.double.url,
            stand.admin,
            f"127.0.10.{place + 1}",
            seconds,
            self._plan.pace,
        )
        with _attacking(attacker, context) as process:
            quiet = time.monotonic()
            time.sleep(self._plan.quiet)  # what is measured
            with Watch(stand) as watch:
                begin = time.monotonic()
                told = _let(process, seconds)
            end = time.monotonic()
        tenant.wait_for(end, _END_SECONDS)
        row.before, row.during = tenant.between(quiet, begin), tenant.between(begin, end)
        row.made, row.refused, row.answers = told["made"], told["refused"], told["answers"]
        row.peaks = dict(watch.peaks)
        row.broken = [*told["wrong"], *dict.fromkeys(watch.unready), *stand.trouble()[:3]]
        if row.faults():
            self.close()
        return row


@contextmanager
def _attacking(attacker: Attacker, context: Context) -> Iterator[subprocess.Popen[str]]:
    """The attacker's process, ready to begin."""
    process = _python("tests.attack.attacker", attacker.name, json.dumps(asdict(context)))
    try:
        assert _line(process, _START_SECONDS) == "ready\n", attacker.name
        yield process
    finally:
        _end(process)


def _let(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """Let it begin, and wait for its end; gives its tally."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = _line(process, seconds + _END_SECONDS)
    if not line:
        return {"made": 0, "refused": 0, "answers": {}, "wrong": ["the attacker's process did not end well"]}
    tally: dict[str, Any] = json.loads(line)
    return tally


def _line(process: subprocess.Popen[str], seconds: float) -> str:
    """The next line that a process says, "" when it says none in time."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(seconds) else ""


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    with process:  # closes its pipes, and waits for it
        pass


def _python(module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def chosen(parts: str = "") -> list[Attacker]:
    return [one for name, one in ATTACKERS.items() if any(part in name for part in parts.split(","))]
