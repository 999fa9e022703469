"""Without any Redis the service runs on a store in its own process: all scripts work there too."""

from __future__ import annotations

import httpx

from service.double import Double, expected_text
from tests.support.service import serve
from tests.support.sse import check_gapless, frames, text_of


async def test_turns_run_resume_stop_and_queue_without_a_redis(
    double: Double, double_server: tuple[Double, str]
) -> None:
    async with serve("", double_server[1]) as served:

        async def begin(**body: object) -> httpx.Response:
            return await served.client.post(
                "/v1/sessions/s/turns", json=body, headers={"Prefer": "respond-async"}
            )

        first = await begin(content="[[tokens=40 rate=200]]")
        second = await begin(content="[[tokens=5 seed=1]]", on_busy="queue")
        for answer, text in ((first, expected_text(40, 0)), (second, expected_text(5, 1))):
            async with served.client.stream("GET", answer.headers["location"] + "/events") as response:
                events = [frame async for frame in frames(response)]
            check_gapless(events)
            assert text_of(events) == text
        third = await begin(content="[[tokens=900 rate=50]]")
        stopped = (await served.client.post(third.headers["location"] + "/stop")).json()
        assert stopped["state"] == "stopped"
        assert (await served.client.delete("/v1/sessions/s")).status_code == 204
        assert (await served.client.get("/v1/sessions")).json() == {"data": [], "next": None}
