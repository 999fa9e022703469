"""What a turn leaves in the worker's memory: nothing that only the garbage collector could free."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator
from types import FrameType

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.conftest import Start
from tests.support.service import Served


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """What `gc.collect` would have freed, kept to be looked at."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def test_turns_leave_no_cycles(served: Served, garbage: list[object]) -> None:
    for number in range(5):
        answer = await served.client.post("/chat", json={"user_query": f"[[tokens=3]] {number}"})
        assert answer.status_code == 200
    gc.collect()
    ours = Counter(
        type(one).__qualname__
        for one in garbage
        if type(one).__module__.startswith("service.") and "service.demo" not in type(one).__module__
    )
    assert not ours
    # In uvicorn a request hangs on its cycle; the double's requests are another matter.
    cycles = [one for one in garbage if isinstance(one, RequestResponseCycle)]
    assert not [cycle for cycle in cycles if cycle.scope["path"] == "/chat"]


@pytest.mark.parametrize(
    "fault", ["fault=400", "fault=503 times=9", "fault=error_event after=3", "fault=cut after=3"]
)
async def test_nor_do_turns_that_fail_keep_their_messages(
    start: Start, garbage: list[object], fault: str
) -> None:
    async with start(retry_budget_seconds=0.5) as served:
        for number in range(3):
            with contextlib.suppress(httpx.RemoteProtocolError):  # after something was shown
                answer = await served.client.post(
                    "/chat", json={"user_query": f"[[tokens=9 {fault}]] {number}"}
                )
                assert answer.status_code >= 400
        gc.collect()
        frames = [one.f_code for one in garbage if isinstance(one, FrameType)]
        ours = [code.co_qualname for code in frames if "/service/" in code.co_filename]
        assert [name for name in ours if name.startswith(("Runner.", "Groq", "Body."))] == []
