"""Channels of a Cluster: each is heard at the node that holds its log, and moves once that is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.config.settings import Settings
from service.store.connection import notifications_cluster
from service.store.connection.multiplexed_cluster import Address
from service.store.connection.notifications_cluster import ClusterNotifications
from tests.support.waiting import eventually_async

A, B, C = ("a", 1), ("b", 2), ("c", 3)


class Slots:
    """Which node holds a channel; `known` once somebody has read them."""

    def __init__(self) -> None:
        self.held: dict[str, Address] = {}
        self.known = True
        self.refreshed = self.read = 0
        self.closed = False

    def holder(self, name: str) -> Address | None:
        return self.held.get(name) if self.known else None

    def pool_at(self, address: Address) -> Address:
        return address

    def refresh(self) -> None:
        self.refreshed += 1

    async def read_slots(self) -> None:
        self.read += 1
        self.known = True

    async def aclose(self) -> None:
        self.closed = True


class Node:
    """Hears what it is asked to, as long as it is `connected`."""

    made: dict[Address, Node]

    def __init__(self, settings: Settings, on_notify: Any, on_reset: Any, pool: Address) -> None:
        self.channels: list[str] = []
        self.connected, self.closed = True, False
        Node.made[pool] = self

    def start(self, channel: str) -> None:
        self.channels.append(channel)

    async def subscribe(self, channel: str) -> None:
        self.channels.append(channel)

    async def unsubscribe(self, channel: str) -> None:
        self.channels.remove(channel)

    async def close(self) -> None:
        self.closed = True


class Heard:
    """What hears, and how often it was told that something may have been missed."""

    def __init__(self) -> None:
        self.resets = 0
        self.found = ClusterNotifications(Settings(_env_file=None), lambda *_: None, self._reset)

    def _reset(self) -> None:
        self.resets += 1


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> Slots:
    found, Node.made = Slots(), {}
    found.held = {"own": A, "x": A, "y": B}
    monkeypatch.setattr(notifications_cluster, "make_cluster", lambda settings: found)
    monkeypatch.setattr(notifications_cluster, "Notifications", Node)
    monkeypatch.setattr(notifications_cluster, "_LOOK_SECONDS", 0.001)
    return found


async def test_a_channel_is_heard_at_its_node_and_a_node_is_asked_on_one_line(slots: Slots) -> None:
    heard = Heard()
    await heard.found.subscribe("x")
    await heard.found.subscribe("y")
    await heard.found.subscribe("nowhere")  # until somebody holds it
    slots.held["z"] = A
    await heard.found.subscribe("z")
    assert {at: node.channels for at, node in Node.made.items()} == {A: ["x", "z"], B: ["y"]}
    await heard.found.unsubscribe("x")
    await heard.found.unsubscribe("nowhere")
    await heard.found.unsubscribe("never")
    assert {at: node.channels for at, node in Node.made.items()} == {A: ["z"], B: ["y"]}
    assert heard.resets == 0
    await heard.found.close()
    assert all(node.closed for node in Node.made.values())
    assert slots.closed


async def test_the_own_channel_is_heard_as_soon_as_the_slots_are_known(slots: Slots) -> None:
    slots.known = False
    heard = Heard()
    heard.found.start("own")
    await eventually_async(lambda: bool(Node.made))
    assert Node.made[A].channels == ["own"]
    assert slots.read == 1
    await eventually_async(lambda: heard.resets == 1)
    await heard.found.close()


async def test_a_channel_follows_its_slot_once_its_node_is_gone_and_not_before(slots: Slots) -> None:
    heard = Heard()
    heard.found.start("own")
    await heard.found.subscribe("x")
    await heard.found.subscribe("y")
    await eventually_async(lambda: Node.made[A].channels == ["x", "own"])
    before, resets = slots.refreshed, heard.resets
    slots.held["y"] = C
    looks = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, looks.set)
    await looks.wait()  # some looks
    assert Node.made.keys() == {A, B}
    assert (slots.refreshed, heard.resets) == (before, resets) == (0, resets)
    gone = Node.made[B]
    gone.connected = False
    await eventually_async(lambda: C in Node.made and gone.closed)
    assert (Node.made[C].channels, gone.channels) == (["y"], [])
    assert heard.resets == resets + 1  # what was published in between was not heard
    assert slots.refreshed > 0
    # A node that is away and still holds what is read is waited for.
    Node.made[A].connected = False
    before = slots.refreshed
    await eventually_async(lambda: slots.refreshed > before + 2)
    assert (Node.made[A].closed, Node.made[A].channels) == (False, ["x", "own"])
    # One that answers and holds nothing that is read just now is kept.
    await heard.found.unsubscribe("y")
    before = slots.refreshed
    await eventually_async(lambda: slots.refreshed > before + 2)
    assert (Node.made[C].closed, Node.made[C].channels) == (False, [])
    assert heard.resets == resets + 1
    await heard.found.close()


async def test_who_stops_to_listen_while_a_channel_moves_is_not_put_elsewhere(slots: Slots) -> None:
    heard = Heard()
    await heard.found.subscribe("y")
    slots.held["y"] = C
    node = Node.made[B]

    async def unsubscribe(channel: str) -> None:
        heard.found._addresses.pop(channel, None)

    node.unsubscribe = unsubscribe  # type: ignore[method-assign]
    await heard.found._move("y", B)
    assert Node.made.keys() == {B}
    assert heard.found._addresses == {}
    assert heard.resets == 0
    await heard.found.close()
