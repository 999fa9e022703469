"""OpenAI's SDK reads a background response on at another replica, after kill -9 of its worker."""

from __future__ import annotations

import os
import signal
from typing import Any

import openai
import pytest

from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.processes import Replica
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.fault

MODEL = "openai/gpt-oss-120b"


def sdk(replica: Replica) -> Any:
    return openai.AsyncOpenAI(base_url=f"{replica.url}/v1", api_key="none", max_retries=5)


def kill(replica: Replica) -> None:
    for pid in replica.workers():
        os.kill(pid, signal.SIGKILL)


async def read(events: Any, seen: list[Any], until: int = 0) -> None:
    """Collect events, up to so many deltas, or to the end of the stream or of its connection."""
    try:
        async for event in events:
            seen.append(event)
            if until and len(text_of(seen)) >= until:
                return
    except openai.APIConnectionError:
        pass


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def test_a_killed_worker_s_response_goes_on_exactly_at_the_other_replica(
    launch: Launch, upstream: DoubleProcess, tmp_path: Any
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        f'[[models]]\nid = "{MODEL}"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
        'reasoning_efforts = ["medium"]\non_takeover = "continue"\n'
    )
    upstream.configure(continues=["*"])
    first, second = launch(workers=1, models_file=models), launch(workers=1, models_file=models)
    asked = "[[tokens=300 rate=60 seed=9]]"
    async with sdk(first) as here, sdk(second) as there:
        events = await here.responses.create(model=MODEL, input=asked, background=True, stream=True)
        seen: list[Any] = []
        await read(events, seen, until=60)
        kill(first)
        await read(events, seen)  # what was on its way
        response_id = seen[0].response.id
        cut = len(seen)
        while seen[-1].type != "response.completed":
            after = seen[-1].sequence_number
            await read(await there.responses.retrieve(response_id, stream=True, starting_after=after), seen)
        assert 0 < cut < len(seen)
        assert text_of(seen) == expected_text(300, 9) == seen[-1].response.output_text
        numbers = [event.sequence_number for event in seen]
        assert numbers == sorted(set(numbers))
        whole: list[Any] = []
        await read(await there.responses.retrieve(response_id, stream=True), whole)
        assert [event.to_dict() for event in whole] == [event.to_dict() for event in seen]


async def test_one_that_is_begun_again_says_so_once_and_is_whole_in_every_replay(launch: Launch) -> None:
    first, second = launch(workers=1), launch(workers=1)
    async with sdk(first) as here, sdk(second) as there:
        events = await here.responses.create(
            model=MODEL, input="[[tokens=200 rate=60 vary]]", background=True, stream=True
        )
        seen: list[Any] = []
        await read(events, seen, until=60)
        kill(first)
        response_id = seen[0].response.id
        with pytest.raises(openai.APIError, match="begun again"):
            await read(
                await there.responses.retrieve(
                    response_id, stream=True, starting_after=seen[-1].sequence_number
                ),
                [],
            )
        whole: list[Any] = []
        await read(await there.responses.retrieve(response_id, stream=True), whole)
        assert text_of(whole) == expected_text(200, 1) == whole[-1].response.output_text
        assert (await there.responses.retrieve(response_id)).output_text == expected_text(200, 1)


async def test_one_of_which_no_text_was_shown_goes_on_as_if_nothing_had_been(
    launch: Launch, upstream: DoubleProcess
) -> None:
    first, second = launch(workers=1), launch(workers=1)
    async with sdk(first) as here, sdk(second) as there:
        queued = await here.responses.create(
            model=MODEL, input="[[tokens=20 first_delay=4 seed=3]]", background=True
        )
        await eventually_async(lambda: bool(upstream.calls()))
        kill(first)
        seen: list[Any] = []
        await read(await there.responses.retrieve(queued.id, stream=True), seen)
        assert text_of(seen) == expected_text(20, 3) == seen[-1].response.output_text
