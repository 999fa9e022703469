"""OpenAI's SDK reads a background response on at another replica, after kill -9 of its worker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import openai
import pytest

from tests.clients.matrix.environments import install
from tests.clients.matrix.running import SECONDS, ask
from tests.clients.matrix.scenarios import QUESTIONS
from tests.clients.matrix.table import RESPONSES
from tests.docs.pages import blocks
from tests.double import expected_text
from tests.fault.conftest import Launch
from tests.support.nginx import Nginx
from tests.support.processes import ROOT, Replica
from tests.support.redis import RedisServer
from tests.support.running import clean_environment
from tests.support.upstream import DoubleProcess
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

MODEL = "openai/gpt-oss-120b"


def sdk(replica: Replica) -> Any:
    return openai.AsyncOpenAI(base_url=f"{replica.url}/v1", api_key="none", max_retries=5)


def going_on(folder: Path) -> Path:
    """A catalogue whose model is asked for the rest when a worker dies."""
    models = folder / "models.toml"
    models.write_text(
        f'[[models]]\nid = "{MODEL}"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
        'reasoning_efforts = ["medium"]\non_takeover = "continue"\n'
    )
    return models


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
    launch: Launch, upstream: DoubleProcess, tmp_path: Path
) -> None:
    models = going_on(tmp_path)
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


PLUG: Final = "        break  # pull the plug"
SDK_READERS: Final = 12


@pytest.mark.parametrize("plug", ["the connection", "the worker"])
async def test_the_ten_lines_of_the_readme_print_true(
    launch: Launch, upstream: DoubleProcess, redis_process: RedisServer, tmp_path: Path, plug: str
) -> None:
    """As they stand there, but for the address, the rate, and that they wait for the plug to be pulled."""
    upstream.configure(continues=["*"])
    replica = launch(workers=2, lease_seconds=1, models_file=going_on(tmp_path))
    [block] = [one for one in blocks(ROOT / "README.md") if one.language == "python" and PLUG in one.text]
    code = block.text.replace("http://localhost:8000", replica.url).replace("=200]]", "=200 rate=60]]")
    waits = f"        print('plug', flush=True), input()\n{PLUG}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code.replace(PLUG, waits),
        env=clean_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(90):
        assert await process.stdout.readline() == b"plug\n"
        if plug == "the worker":
            with redis_process.client() as store:
                [turn] = store.scan_iter("*:turn:*")
                os.kill(int(store.hget(turn, "owner").rpartition(":")[2]), signal.SIGKILL)
        out, _ = await process.communicate(b"\n")
    assert out == b"True\n"


async def test_each_reader_that_is_cut_somewhere_else_has_each_event_once(
    launch: Launch, upstream: DoubleProcess, tmp_path: Path
) -> None:
    """Readers of one answer, each cut after another event, while its worker is killed: lost or doubled 0."""
    upstream.configure(continues=["*"])
    models = going_on(tmp_path)
    first, second = launch(workers=1, models_file=models), launch(workers=1, models_file=models)
    async with sdk(first) as here, sdk(second) as there:
        asked = "[[tokens=150 rate=50 seed=4]]"
        begun = await here.responses.create(model=MODEL, input=asked, background=True)

        async def cut_after(number: int) -> list[Any]:
            """Every so many events the connection goes, and the next is at the other replica."""
            seen: list[Any] = []
            where = [there, here]
            while not seen or seen[-1].type != "response.completed":
                query = {"starting_after": seen[-1].sequence_number} if seen else {}
                try:
                    events = await where[0].responses.retrieve(begun.id, stream=True, **query)
                    fresh: list[Any] = []
                    async for event in events:
                        fresh.append(event)
                        if len(fresh) == number:
                            break
                    await events.close()
                except openai.APIError:
                    pass  # the worker that was killed, or its place while a new one starts
                seen += fresh
                where.reverse()
            return seen

        readers = [asyncio.create_task(cut_after(number)) for number in range(3, 3 + SDK_READERS)]
        watched: list[Any] = []
        await read(await there.responses.retrieve(begun.id, stream=True), watched, until=40)
        kill(first)
        told = await asyncio.wait_for(asyncio.gather(*readers), 90)
        whole: list[Any] = []
        await read(await there.responses.retrieve(begun.id, stream=True), whole)
        assert text_of(whole) == expected_text(150, 4)
        numbers = [event.sequence_number for event in whole]
        for seen in told:
            assert [event.sequence_number for event in seen] == numbers
            assert text_of(seen) == expected_text(150, 4)


@pytest.mark.timeout(240)
async def test_a_rolling_restart_loses_and_doubles_nothing_of_background_responses(
    launch: Launch, tmp_path: Path
) -> None:
    replicas = [launch(workers=1, drain_delay_seconds=0.5, drain_seconds=30) for _ in range(2)]
    nginx = Nginx(tmp_path / "nginx", [replica.port for replica in replicas])
    try:
        async with openai.AsyncOpenAI(base_url=f"{nginx.url}/v1", api_key="none", max_retries=5) as client:

            async def follow(seed: int) -> list[Any]:
                asked = f"[[tokens=200 rate=40 seed={seed}]]"
                seen: list[Any] = []
                await read(
                    await client.responses.create(model=MODEL, input=asked, background=True, stream=True),
                    seen,
                )
                while seen[-1].type != "response.completed":
                    query = {"stream": True, "starting_after": seen[-1].sequence_number}
                    await read(await client.responses.retrieve(seen[0].response.id, **query), seen)
                return seen

            following = [asyncio.create_task(follow(seed)) for seed in range(6)]
            for replica in replicas:
                replica.signal(signal.SIGTERM)
                assert await asyncio.to_thread(replica.wait, 60) == 0
                await asyncio.to_thread(replica.start)
            for seed, seen in enumerate(await asyncio.wait_for(asyncio.gather(*following), 90)):
                assert text_of(seen) == expected_text(200, seed) == seen[-1].response.output_text
                numbers = [event.sequence_number for event in seen]
                assert numbers == sorted(set(numbers))
    finally:
        nginx.close()


@pytest.mark.timeout(SECONDS + 180)  # an installation, where `make clients` has not done it
async def test_pydantic_ai_reads_a_background_response_on_by_itself_through_a_drain(
    launch: Launch, upstream: DoubleProcess, redis_process: RedisServer, tmp_path: Path
) -> None:
    [client] = [one for one in RESPONSES if one.place == "pydantic_ai"]
    install(client)
    upstream.configure(continues=["*"])
    models = going_on(tmp_path)
    replicas = [
        launch(workers=1, drain_delay_seconds=0.2, drain_seconds=1, models_file=models) for _ in range(2)
    ]
    nginx = Nginx(tmp_path / "nginx", [replica.port for replica in replicas])
    asking = replace(
        client,
        options={**client.options, "settings": {"openai_background": True}},
        questions={"stream": "[[tokens=600 rate=40 seed=6]]"},
        lacks=dict.fromkeys(QUESTIONS.keys() - {"stream"}, "not asked here"),
    )
    try:
        playing = asyncio.create_task(ask(asking, nginx.url, tmp_path))
        with redis_process.client() as store:

            def owner() -> int | None:
                for turn in store.scan_iter("*:turn:*"):
                    name, last = store.hmget(turn, "owner", "last")
                    if int(last) > 20:
                        return int(name.rpartition(":")[2])
                return None

            pid = await eventually_async(owner, within=SECONDS)
            [leaving] = [replica for replica in replicas if pid in replica.workers()]
            leaving.signal(signal.SIGTERM)
            assert await asyncio.to_thread(leaving.wait, 60) == 0
            told = await playing
            [turn] = store.scan_iter("*:turn:*")
            assert int(store.hget(turn, "epoch")) > 1
        assert told == {"stream": {"text": expected_text(600, 6)}}
    finally:
        nginx.close()
