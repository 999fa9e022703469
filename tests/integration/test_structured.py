"""Structured answers: streamed where the model does that, else asked for whole; a refusal teaches which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from service.engine import runner
from service.upstream import formats
from tests.conftest import Start
from tests.double import Double
from tests.support.dialects import datas
from tests.support.service import Served

PATH = "/v1/chat/completions"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
OBJECT = {"type": "json_object"}
FORMATS: dict[str, dict[str, Any]] = {"json_schema": SCHEMA, "json_object": OBJECT}


@pytest.fixture
def models(tmp_path: Path) -> Any:
    """A catalogue of one model that says of no format that it is not streamed, or of some."""

    def written(*whole: str) -> Path:
        path = tmp_path / "models.toml"
        path.write_text(
            '[[models]]\nid = "openai/gpt-oss-120b"\ncontext_window = 131072\nmax_completion_tokens = 65536\n'
            f'capabilities = ["tools", "json", "reasoning"]\nreasoning_efforts = ["medium"]\n'
            f"whole_formats = {json.dumps(whole)}\n"
        )
        return path

    return written


async def ask(served: Served, form: dict[str, Any], wish: str = "[[tokens=9 reasoning=2 cached=3]]") -> Any:
    body = {"messages": [{"role": "user", "content": wish}], "response_format": form}
    return await served.client.post(PATH, json=body)


def asked(double: Double) -> list[tuple[bool, int]]:
    """Of each call: was it a stream, and the status of its answer."""
    calls: list[Any] = [call.describe() for call in double.calls]
    return [(call["params"]["stream"], call["status"]) for call in calls]


async def test_what_the_catalogue_says_is_not_streamed_is_asked_for_whole(
    served: Served, double: Double
) -> None:
    whole = (await ask(served, SCHEMA)).json()
    streamed = (await ask(served, OBJECT)).json()
    assert asked(double) == [(False, 200), (True, 200)]
    for one in (whole, streamed):
        one.pop("id"), one.pop("created"), one.pop("system_fingerprint"), one.pop("x_groq")
        usage = one.pop("usage")
        assert usage["prompt_tokens_details"] == {"cached_tokens": 3}
        assert usage["completion_tokens_details"] == {"reasoning_tokens": 2}
        assert usage["completion_tokens"] == 11
    assert whole == streamed
    first: Any = next(iter(double.calls)).describe()
    assert "stream_options" not in first["params"]


async def test_it_is_logged_as_such(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    written = CapturingLogger()  # loggers that tests before this one have used write where they did then
    monkeypatch.setattr(runner, "log", written)

    def told() -> bool:
        return "attempt.whole" in [call.args[0] for call in written.calls]

    await ask(served, OBJECT)
    assert not told()
    await ask(served, SCHEMA)
    assert told()


async def test_a_client_that_streams_it_is_sent_all_at_once(served: Served, double: Double) -> None:
    body = {
        "messages": [{"role": "user", "content": "[[tokens=40 rate=400]]"}],
        "response_format": SCHEMA,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chunks = datas((await served.client.post(PATH, json=body)).text)
    said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    assert len([text for text in said if text]) == 1
    assert chunks[-1]["usage"]["completion_tokens"] == 40
    assert asked(double) == [(False, 200)]


async def test_a_whole_answer_has_no_first_token_to_wait_for(start: Start, double: Double) -> None:
    async with start(first_token_timeout_seconds=0.3, idle_timeout_seconds=0.3) as served:
        answer = await ask(served, SCHEMA, "[[tokens=30 rate=40]]")
    assert answer.status_code == 200, answer.text
    assert asked(double) == [(False, 200)]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_refusal_is_learned_and_the_call_made_the_other_way(
    start: Start, double: Double, models: Any, monkeypatch: pytest.MonkeyPatch, name: str, streams: bool
) -> None:
    double.configure(
        double.settings.changed(
            {
                "unstreamed": [] if streams else [name],
                "streamed_only": [name] if streams else [],
            }
        )
    )
    catalogue = models(*([name] if streams else []))
    async with start(models_file=catalogue) as served:
        for _ in range(2):
            answer = await ask(served, FORMATS[name])
            assert answer.status_code == 200, answer.text
        assert asked(double) == [(not streams, 400), (streams, 200), (streams, 200)]
        learned = served.app.state.edge.engine._upstream._formats._learned
        [(_, end)] = learned.values()
        monkeypatch.setattr(formats, "monotonic", lambda: end)
        assert (await ask(served, FORMATS[name])).status_code == 200
    assert asked(double)[3:] == [(not streams, 400), (streams, 200)], "what was learned has an end"


async def test_what_is_refused_for_another_reason_is_told(start: Start, double: Double, models: Any) -> None:
    async with start(models_file=models()) as served:
        answer = await ask(served, OBJECT, "[[fault=400]]")
    assert answer.status_code == 400
    assert asked(double) == [(True, 400)]


@pytest.mark.parametrize(
    ("fault", "status"),
    [("cut", 502), ("torn", 502), ("garbage", 502), ("error_event", 400), ("json_validate_failed", 400)],
)
async def test_a_whole_answer_fails_as_a_stream_does(start: Start, fault: str, status: int) -> None:
    async with start(max_attempts=1) as served:
        answer = await ask(served, SCHEMA, f"[[tokens=9 fault={fault}]]")
    assert answer.status_code == status, answer.text


async def test_a_whole_answer_that_fails_is_tried_again(served: Served, double: Double) -> None:
    answer = await ask(served, SCHEMA, "[[tokens=9 fault=cut times=1]]")
    assert answer.status_code == 200
    assert [streamed for streamed, _ in asked(double)] == [False, False]
