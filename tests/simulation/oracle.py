"""What must hold, asked after every command of the store and after everything that a reader is shown.

The oracle sees what the store has carried out and never what a worker believes. `Kept` is what is in the
store because of acknowledged writes; it goes back with the store when that loses some. What readers were
shown stays shown. A rule that is broken ends the history (`Loop.broken`). That all ends is for world.py.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson

from service import events
from service.config.settings import Settings
from service.events import Event
from service.store.turn_records import LIFE
from tests.simulation.books import Books
from tests.simulation.clock import EPOCH, Loop
from tests.simulation.keeping import Keeping
from tests.simulation.network import Network
from tests.simulation.provider import Provider
from tests.simulation.said import Said
from tests.simulation.seen import Asked, Checked, Kept, SessionSnapshot, text_of

_SEALED: Final = (b"completed", b"stopped", b"failed")
_STATES: Final = {b"completed": events.COMPLETED, b"stopped": events.STOPPED, b"failed": events.FAILED}
# Scripts by which the owner of a turn, and nobody else, changes it.
_OWNERS: Final = ("append", "renew", "release", "seal")
# A reader at another worker is shown an event so long after it was logged, where nothing is in the way: one
# round trip each for the bell and for the log, and the pause between two reads of a tail.
_SHOWN_SECONDS: Final = 0.5
# And so long after its runner was given it, it is in the log: an append under way, a window of 40 ms and the
# append itself, each way of which is 60 ms late at worst.
_LOGGED_SECONDS: Final = 0.35


class Oracle:
    def __init__(
        self, loop: Loop, network: Network, provider: Provider, settings: Settings, *, calm: bool
    ) -> None:
        self._loop = loop
        self._network = network
        self.redis = network.redis
        self.provider = provider
        self.settings = settings
        self._lease_ms = int(settings.lease_seconds * 1000)
        self.calm = calm
        self.smooth = calm and provider.kind  # nothing goes wrong, with the provider neither
        self.kept = Kept()
        self.losses = 0
        self.impaired: dict[str, float] = {}  # workers, and until when something kept them from their work
        self.logged: dict[tuple[str, int], dict[bytes, float]] = {}  # ever, with the time
        self.shown: dict[tuple[str, int], bytes] = {}
        # Turns of which the store has forgotten a claim. An owner before it that slept meanwhile goes on with
        # ids that the claimer has given out: docs/reliability.md says so.
        self.forgotten: set[str] = set()
        self.evicted: set[bytes] = set()  # sessions, as their keys begin, whose hash the store has forgotten
        self.ended: dict[tuple[str, int], str] = {}
        self.outcomes: Counter[str] = Counter()
        self._claims: Counter[str] = Counter()
        self._checked: dict[bytes, Checked] = {}  # logs, by their names
        self._forced = False
        self.books = Books(self)
        self._keeping = Keeping(self)
        self._said = Said(self)
        self.redis.told = self._carried_out
        provider.told = self._said.told

    def broken(self, rule: str, *details: object) -> None:
        self._loop.broken.append(f"{rule}: {' '.join(map(str, details))}")

    def remember(self) -> Kept:
        return copy.deepcopy(self.kept)

    def lose(self, past: Kept) -> None:
        for key, seen in self.kept.turns.items():
            if key in past.turns and past.turns[key].claim != seen.claim:
                self.forgotten.add(key.rpartition(b":")[2].decode())
        self.kept = past
        self._checked.clear()
        self.losses += 1

    # What the store has carried out

    def _carried_out(self, name: str, keys: Sequence[bytes], given: Mapping[str, Any], reply: Any) -> None:
        if name != "finish":
            self._told(name, keys, given, reply)
            return
        self._told("seal", keys, given["sealing"], reply[0])
        if reply[1] == 1:
            self.books.settled(given["settling"])

    def _told(self, name: str, keys: Sequence[bytes], given: Mapping[str, Any], reply: Any) -> None:
        serving = self._network.serving
        worker = serving.process.name.encode() if serving else b""
        if name == "enter" and isinstance(reply, list) and len(reply) > 1:
            self.books.reserved(given["reserving"], reply[1])
            if len(reply) > 2:
                self._begun(given["beginning"], reply[2])
        elif name == "begin":
            self._begun(given, reply)
        # By a stop, which takes it from a living owner.
        self._forced = name == "claim" and given["force"] == b"1"
        for key in keys:
            if b":turn:" in key:
                self._look(key, name, worker, reply)
        self._keeping.touched(name, keys)
        if name == "seal" and reply[0] == b"SEALED":
            self._sealed(given)
        elif name == "leave" and reply == 1:
            self.books.settled(given["settling"])
        elif name == "release" and reply == 1:
            self._released(given["turn"], worker)
        elif name == "delete_session" and reply == 1:
            self.kept.sessions.pop(given["session"], None)
            self.kept.named.discard(given["session"])
        elif name in ("UNLINK", "DEL"):
            for key in given["args"]:
                self.kept.turns.pop(key, None)

    def _look(self, key: bytes, name: str, worker: bytes, reply: Any) -> None:
        """What has changed in a turn, and was it allowed to?"""
        held = self.redis.hash(key)
        before = self.kept.turns.get(key)
        if not held:
            self.kept.turns.pop(key, None)
            return
        turn_id = held[b"id"].decode()
        now = SessionSnapshot(
            held[b"state"],
            int(held[b"epoch"]),
            held[b"owner"],
            held.get(b"claim", b""),
            int(held[b"last"]),
            int(held[b"lease"]),
            b"stop" in held,
        )
        self.kept.turns[key] = now
        if name in _OWNERS and _accepted(name, reply):
            if held[b"owner"] != worker:
                self.broken("somebody else's write was taken", name, worker, held[b"owner"], turn_id)
            if name == "append":
                self.books.noted(turn_id, held)
            if name in ("append", "renew") and now.lease < self.now_ms() + self._lease_ms - 2:
                self.broken("a write or a renewal leaves no lease", name, turn_id)
        fresh = self._fresh(key, turn_id, before, now)
        if fresh and held[b"owner"] != worker:
            self.broken("somebody else has written", name, worker, held[b"owner"], turn_id)
        if before is None:
            return
        if before.state in _SEALED and (now.state != before.state or fresh):
            self.broken("a turn that had ended goes on", name, turn_id, before.state, now.state)
        if now.epoch < before.epoch:
            self.broken("the epoch falls", turn_id, before.epoch, now.epoch)
        if (now.owner, now.claim) != (before.owner, before.claim):
            self._claimed(turn_id, before, now)
        if now.state == b"running" and before.state != b"running":
            self._one_runs(key, turn_id)

    def _claimed(self, turn_id: str, before: SessionSnapshot, now: SessionSnapshot) -> None:
        self._claims[turn_id] += 1
        if now.epoch != before.epoch + 1:
            self.broken("a claim does not raise the epoch", turn_id, before.epoch, now.epoch)
        if before.state != b"running" or self._forced:
            return
        if before.lease > self.now_ms():
            self.broken("a turn was taken from an owner whose lease holds", turn_id)
        impaired = self.impaired.get(before.owner.decode(), float("-inf"))
        # A store that is back leaves them to their owners for a lease, one with another history for one more.
        if impaired < self._loop.time() - 3 * self.settings.lease_seconds:
            self.broken("a turn was taken from an owner that lives", turn_id, before.owner)

    def _fresh(
        self,
        key: bytes,
        turn_id: str,
        before: SessionSnapshot | None,
        now: SessionSnapshot,
    ) -> int:
        """Check the events that came to the log; returns how many."""
        name = key.replace(b":turn:", b":log:")
        seen, length = self._checked.get(name), self.redis.length(name)
        if seen is None or length < seen.count:
            seen = self._checked[name] = Checked()
        last = before.last if before is not None else 0
        fresh = 0
        for event_id, payload in self.redis.log(name, seen.count) if length > seen.count else ():
            self._entered(turn_id, event_id, payload, seen.last[0])
            fresh += event_id > last
            if Event(1, payload).terminal:
                seen.ends.append(seen.count)
            seen.count, seen.last = seen.count + 1, (event_id, payload)
        if length and now.last != seen.last[0] and (now.last + 1) % LIFE:
            self.broken("the turn does not know its last event", turn_id, now.last, seen.last[0])
        if now.state in _SEALED and length:
            if seen.ends != [length - 1] or Event(1, seen.last[1]).name != _STATES[now.state]:
                self.broken("a turn has not one terminal event, as its last", turn_id, now.state, seen.last)
        elif seen.ends:
            self.broken("a terminal event in a turn that runs", turn_id)
        return fresh

    def _entered(self, turn_id: str, event_id: int, payload: bytes, previous: int) -> None:
        """An entry of a log that stands behind `previous`."""
        now = self._loop.time()
        self.logged.setdefault((turn_id, event_id), {}).setdefault(payload, now)
        if self.calm and payload[:1] == b"d":
            late = now - min(self.provider.given_at[word] for word in payload[1:].decode().split())
            if late > _LOGGED_SECONDS:
                self.broken("words are logged late", turn_id, event_id, late)
        shown = self.shown.get((turn_id, event_id))
        if shown is not None and shown != payload and turn_id not in self.forgotten:
            self.broken("an id that was shown has another content", turn_id, event_id, shown, payload)
        if event_id != previous + 1 and (event_id % LIFE or not event_id):
            self.broken("a gap in the log", turn_id, previous, event_id)

    def _begun(self, given: Mapping[str, Any], reply: Any) -> None:
        if reply[0] != b"BEGUN" or given["turn"] in self.kept.turns:
            return
        turn_id, message_id = given["turn_id"].decode(), reply[3]
        self.kept.settled.pop(turn_id, None)  # what it had reserved was given up before it began
        asked = self.kept.sessions.setdefault(given["session"], [])
        place = next((i for i, one in enumerate(asked) if one.message == message_id), len(asked))
        content = orjson.loads(given["message"])["content"] if given["message"] else asked[place].content
        del asked[place:]
        asked.append(Asked(message_id, content, turn_id))
        if given["fingerprint"]:  # so it has a key
            earlier = self.kept.keys.get(given["idem"])
            if earlier is not None and any(turn.endswith(earlier.encode()) for turn in self.kept.turns):
                self.broken("a repeated send is a second turn", earlier, turn_id)
            self.kept.keys[given["idem"]] = turn_id
        queued = self.redis.value(given["queue"]) or ()
        if len(queued) > self.settings.max_queued_turns:
            self.broken("more turns wait than may", len(queued))
        self._keeping.begun(given, reply[1], self._ref(given["turn"]))
        self._one_runs(given["turn"], turn_id)

    @staticmethod
    def _ref(turn: bytes) -> bytes:
        """How indexes name a turn, of whose hash this is the key."""
        return turn[turn.index(b"{") + 1 : turn.index(b"}")] + b"/" + turn.rpartition(b":")[2]

    def log_of(self, turn_id: str) -> list[Event]:
        name = next(key for key in self.redis.names() if key.endswith(f":log:{turn_id}".encode()))
        return [Event(i, payload) for i, payload in self.redis.log(name)]

    def _one_runs(self, key: bytes, turn_id: str) -> None:
        """Of one session one turn runs at most; of one worker no more than it can take."""
        base = key[: key.index(b":turn:")]
        names = [name for name in self.redis.names() if name.startswith(base + b":turn:")]
        running = [name for name in names if self.redis.hash(name)[b"state"] == b"running"]
        if len(running) > 1 and base not in self.evicted:
            self.broken("two turns of a session run at once", turn_id, running)
        if self.calm:
            owners = Counter(seen.owner for seen in self.kept.turns.values() if seen.state == b"running")
            if owners and max(owners.values()) > self.settings.max_running_turns:
                self.broken("a worker runs more turns than it may", owners)

    def _sealed(self, given: Mapping[str, Any]) -> None:
        held = self.redis.hash(given["turn"])
        turn_id = held[b"id"].decode()
        if turn_id in self.kept.bills:
            return  # a repeat
        self.outcomes[held[b"state"].decode()] += 1
        log = [Event(i, payload) for i, payload in self.redis.log(given["log"])]
        text = text_of(log)
        self.ended[turn_id, log[-1].id] = text
        self._words(turn_id, held[b"state"], log)
        usage = orjson.loads(held[b"usage"])
        if log[-1].data["usage"] != usage:
            self.broken("the last event has another usage than the turn", turn_id, log[-1].data, usage)
        self.books.sealed(turn_id, held, log, usage)
        if self.smooth and held[b"state"] == b"failed":
            self.broken("an answer failed though nothing went wrong", turn_id, log[-1].payload)
        if given["frees_key"] == b"1":
            self.kept.keys = {key: one for key, one in self.kept.keys.items() if one != turn_id}
        for one in self.kept.sessions.get(given["session"], ()):
            if one.turn == turn_id and given["answer"] and self.redis.hash(given["session"]):
                one.answer = self._answer(turn_id, held, text, orjson.loads(given["answer"])["content"])
        self._said.history(given["session"])
        self._keeping.sealed(given)

    def _answer(self, turn_id: str, held: dict[bytes, bytes], text: str, answer: str) -> str:
        """The text for the history: the log's. Where the store lost some of that, its owner may know more."""
        lost = b"kept" in held and held[b"state"] == b"failed" and answer.startswith(text)
        words = {word for call in self.provider.of(turn_id) for word in call.words}
        said = all(f"{word} " in words for word in answer.split())
        if answer != text and not (lost and said):
            self.broken("an answer is not what its log says", turn_id, text, answer)
        return answer

    def _words(self, turn_id: str, state: bytes, log: list[Event]) -> None:
        """Each attempt's words are the beginning of what one call has said; of a completed turn all of it."""
        calls = self.provider.calls
        restarts = [i for i, event in enumerate(log) if event.name == events.RESTARTED]
        segments = [""]
        for event in log[restarts[-1] if restarts else 0 :]:
            if event.name == events.ATTEMPT:
                segments.append("")
            elif event.name == events.DELTA:
                segments[-1] += event.text
        for text in filter(None, segments):
            number = text.partition(".")[0]
            call = calls[int(number)] if number.isdigit() and int(number) < len(calls) else None
            if call is None or call.turn_id != turn_id or not call.text.startswith(text):
                self.broken("words that no call has said so", turn_id, text)
        if state == b"completed":
            whole = [call for call in calls if call.turn_id == turn_id and call.text == segments[-1]]
            if not (whole and whole[0].reported):
                self.broken("a completed answer is not whole", turn_id, segments[-1])

    def _released(self, key: bytes, worker: bytes) -> None:
        """All that the worker was given is in the log that it leaves."""
        turn_id = self.redis.hash(key)[b"id"].decode()
        log = self.redis.log(key.replace(b":turn:", b":log:"))
        text = "".join(Event(i, payload).text for i, payload in log if payload[:1] == b"d")
        given = [call for call in self.provider.of(turn_id) if call.process.name.encode() == worker]
        if given and "".join(given[-1].given) not in text:
            self.broken("a released turn lacks what its owner was given", turn_id, text, given[-1].given)

    # What readers are shown

    def show(self, turn_id: str, event: Event, since: float) -> None:
        """`since`: the reader follows from then on."""
        logged = self.logged.get((turn_id, event.id), {}).get(event.payload)
        if logged is None:
            self.broken("an event was shown that is in no log", turn_id, event.id, event.payload)
            return
        first = self.shown.setdefault((turn_id, event.id), event.payload)
        if first != event.payload and turn_id not in self.forgotten:
            self.broken("two readers were shown two contents of one id", turn_id, event.id)
        late = self._loop.time() - max(logged, since)
        if self.calm and late > _SHOWN_SECONDS:
            self.broken("a reader was shown an event late", turn_id, event.id, late)

    # When all is over

    def unsettled(self, living: Collection[str]) -> str:
        """What is not done yet; '' when nothing is left to do. `living`: workers that have not ended."""
        left = [key for key, seen in self.kept.turns.items() if seen.state not in _SEALED]
        if left:
            return f"turns that have not ended: {left}"
        bills = [turn for turn in self.kept.bills if turn not in self.kept.settled]
        if bills:
            return f"turns that nobody has booked: {bills}"
        for key in self.redis.names():
            if key.endswith((b":running", b":reserved", b"turns:deadlines")):
                value = self.redis.value(key)
                found = list(value) if value is not None else []
                if found:
                    return f"{key.decode()} still holds {found}"
            if b":worker:" in key and self.calm and key.split(b":worker:")[1][:-6].decode() in living:
                # Of a stop and a promotion that claim a turn at the same moment one may come too late.
                listed = [one.decode() for one in self.redis.value(key) or ()]
                listed = [one for one in listed if self._claims[one.rpartition("/")[2]] < 2]
                if listed:
                    return f"{key.decode()} still holds {listed}"
            if key.endswith(b":session") and b"active" in self.redis.hash(key):
                return f"{key.decode()} is still busy"
            if key.endswith(b":queue"):
                return f"{key.decode()} is not empty"
        return ""

    def at_the_end(self) -> None:
        for session in self.kept.sessions:
            self._said.history(session)
        self.books.at_the_end()
        self._keeping.at_the_end()

    def now_ms(self) -> int:
        return int((EPOCH + self._loop.time()) * 1000)


def _accepted(name: str, reply: Any) -> bool:
    if name == "seal":
        return bool(reply[0] == b"SEALED")
    return reply in (1, 2, 3)
