"""The rest of an answer is asked for while it is being told: nothing that was shown of it is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.conftest import Start
from tests.support.tool_clients import NativeTools
from tests.support.waiting import eventually_async


async def test_a_rest_that_interrupts_a_rest_keeps_what_that_has_said(start: Start, tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
        'capabilities = ["tools"]\non_takeover = "continue"\n'
    )
    async with start(models_file=models) as served:
        native = NativeTools(served)

        async def stopped_after_some(body: dict[str, Any], stop: bool) -> Any:
            sending = asyncio.create_task(native.post(body))

            async def shown() -> Any:
                turn = (await served.client.get("/v1/sessions/s")).json().get("active_turn")
                found = turn and (await served.client.get(f"/v1/sessions/s/turns/{turn}")).json()
                return turn if found and len(found["text"]) > 40 else None

            turn = await eventually_async(shown)
            if stop:
                await served.client.post(f"/v1/sessions/s/turns/{turn}/stop")
            return sending

        asked = {
            "content": "[[tokens=3000 rate=100]]"
        }  # a model that goes on by a prefill reads this each time
        first = await (await stopped_after_some(asked, stop=True))
        running = await stopped_after_some({"continue": True}, stop=False)
        last = await stopped_after_some({"continue": True, "on_busy": "interrupt"}, stop=True)
        second, third = await running, await last
        found = (await served.client.get("/v1/sessions/s/messages")).json()["data"]
        assert [one["role"] for one in found] == ["user", "assistant"]
        assert found[1]["content"] == first.text + second.text + third.text
