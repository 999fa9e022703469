"""Waiting for a shared task: who leaves does not end it, and its failure is told to those who stay."""

from __future__ import annotations

import asyncio
import gc
import re
from typing import Any

import pytest

from service.eventloop.shared_task import result_of
from tests.support.running import ROOT


async def fails(when: asyncio.Event) -> int:
    await when.wait()
    raise LookupError("gone")


async def test_who_leaves_does_not_end_it_and_who_stays_hears_of_its_failure() -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    now = asyncio.Event()
    task = asyncio.create_task(fails(now))
    leaves, stays = (asyncio.create_task(result_of(task)) for _ in range(2))
    await asyncio.sleep(0)  # until it waits
    leaves.cancel()
    await asyncio.wait([leaves])
    assert not task.done()
    now.set()
    with pytest.raises(LookupError, match="gone"):
        await stays
    await asyncio.sleep(0)  # until the loop has told of what it would
    assert unhandled == []


async def test_a_failure_that_nobody_has_waited_for_is_no_error_of_the_loop() -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    now = asyncio.Event()
    task = asyncio.create_task(fails(now))
    leaves = asyncio.create_task(result_of(task))
    await asyncio.sleep(0)  # until it waits
    leaves.cancel()
    now.set()
    await asyncio.wait([leaves, task])
    del leaves, task
    gc.collect()
    await asyncio.sleep(0)  # until the loop has told of what it would
    assert unhandled == []


async def test_its_result_is_everybodys() -> None:
    task = asyncio.create_task(asyncio.sleep(0, result=7))
    assert list(await asyncio.gather(result_of(task), result_of(task))) == [7, 7]
    assert await result_of(task) == 7


def test_nothing_in_the_service_shields() -> None:
    """From Python 3.14 on asyncio.shield tells the loop of failures that others have heard of."""
    files = [file for file in (ROOT / "service").rglob("*.py") if re.search(r"\bshield\(", file.read_text())]
    assert files == []
