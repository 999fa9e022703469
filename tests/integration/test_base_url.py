"""GROQ_BASE_URL of servers of either kind: the base that Groq's SDKs take, and the URL of an API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.upstream.address import roots
from tests.conftest import Start
from tests.double import Double, create_double, expected_text, running
from tests.support.redis import RedisServer, free_port
from tests.support.running import call

ASKED = {"user_query": "[[tokens=3]]"}


@contextmanager
def serving(root: str) -> Iterator[tuple[Double, str]]:
    """A server whose API stands at `root`."""
    double = create_double(rate=0)
    double.configure(double.settings.changed({"root": root}))
    with running(double) as url:
        yield double, url


def test_a_url_that_ends_in_a_version_is_the_api_s_own() -> None:
    assert roots(None) == ["https://api.groq.com/openai/v1"]
    assert roots("https://api.groq.com/openai/v1/") == ["https://api.groq.com/openai/v1"]
    assert roots("http://h:8000/v1") == ["http://h:8000/v1"]
    assert roots("http://h/gateway/v2beta") == ["http://h/gateway/v2beta"]
    assert roots("http://h/") == ["http://h/openai/v1", "http://h/v1", "http://h"]


@pytest.mark.parametrize(
    ("root", "base"),
    [
        ("/openai/v1", ""),
        ("/openai/v1", "/"),
        ("/openai/v1", "/openai/v1"),
        ("/openai/v1", "/openai"),
        ("/v1", "/v1"),
        ("/v1", "/v1/"),
        ("/v1", ""),
        ("/gateway/openai/v1", "/gateway"),
        ("/gateway/v1", "/gateway/v1"),
        ("/gateway/v1", "/gateway"),
        ("/v1beta/openai", "/v1beta/openai"),
    ],
)
async def test_the_api_is_found_and_looked_for_once(start: Start, root: str, base: str) -> None:
    with serving(root) as (double, url):
        async with start(groq_base_url=f"{url}{base}") as served:
            for _ in range(2):
                answer = await served.client.post("/chat", json=ASKED)
                assert (answer.status_code, answer.text) == (200, expected_text(3))
        assert [call.status for call in double.calls] == [200, 200]


async def test_many_calls_at_once_find_it_together(start: Start) -> None:
    with serving("/v1") as (double, url):
        async with start(groq_base_url=url) as served:
            answers = await asyncio.gather(*(served.client.post("/chat", json=ASKED) for _ in range(9)))
        assert [answer.text for answer in answers] == [expected_text(3)] * 9
        assert len(list(double.calls)) == 9


async def test_where_there_is_no_api_nobody_says_that_the_model_refused(start: Start) -> None:
    with serving("/elsewhere/v1") as (_, url):
        async with start(groq_base_url=f"{url}/v1") as served:
            answer = await served.client.post("/chat", json=ASKED)
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_unavailable")
    assert answer.json()["detail"] == "The provider is not where this service looks for it."


async def test_a_model_that_is_not_there_is_no_wrong_address(start: Start) -> None:
    """vLLM's 404 for a model: its fallback answers."""
    with serving("/v1") as (double, url):
        double.configure(double.settings.changed({"models": ["openai/gpt-oss-20b"]}))
        async with start(groq_base_url=url) as served:
            answer = await served.client.post("/chat", json=ASKED)
        assert answer.text == expected_text(3)


# python -m service check


def checked(folder: Path, redis_url: str, **settings: str) -> tuple[int, str]:
    ended = call("check", cwd=folder, CHAT_REDIS_URL=redis_url, **settings)
    return ended.returncode, (ended.stdout if ended.returncode == 0 else ended.stderr).splitlines()[-1]


@pytest.mark.parametrize(("root", "base"), [("/openai/v1", ""), ("/v1", ""), ("/v1", "/v1")])
def test_check_asks_the_provider_for_its_models(
    tmp_path: Path, redis_server: RedisServer, root: str, base: str
) -> None:
    with serving(root) as (double, url):
        told = checked(tmp_path, redis_server.url, GROQ_BASE_URL=f"{url}{base}")
        assert told == (0, f"The provider at {url}{root} offers 6 models, ours among them.")
        double.configure(double.settings.changed({"models": ["openai/gpt-oss-120b"]}))
        status, line = checked(tmp_path, redis_server.url, GROQ_BASE_URL=f"{url}{base}")
        assert (status, "not among them: openai/gpt-oss-20b, qwen/qwen3.8-27b" in line) == (0, True)
        double.configure(double.settings.changed({"models": ["some/model"]}))
        status, line = checked(tmp_path, redis_server.url, GROQ_BASE_URL=f"{url}{base}")
        assert status == 1
        assert "openai/gpt-oss-120b is the default" in line
        assert "(it offers some/model)" in line


def test_check_says_what_is_wrong_with_url_and_status(tmp_path: Path, redis_server: RedisServer) -> None:
    with serving("/elsewhere/v1") as (double, url):
        status, line = checked(tmp_path, redis_server.url, GROQ_BASE_URL=url)
        places = [f"{url}{place}/models answered 404" for place in ("/openai/v1", "/v1", "")]
        assert (status, line) == (
            1,
            (
                f"chat: There is no API where GROQ_BASE_URL says: {', '.join(places)}."
                " Set it to the URL below which /models is, or to Groq's without /openai/v1."
            ),
        )
        double.configure(double.settings.changed({"require_key": True, "api_keys": ["good"]}))
        base = url.replace("//", "//user:secret@") + "/elsewhere/v1"
        status, line = checked(tmp_path, redis_server.url, GROQ_BASE_URL=base, GROQ_API_KEY="gsk_bad")
        assert (status, line) == (
            1,
            (
                f"chat: The provider refuses us: {url}/elsewhere/v1/models answered 401."
                " Is GROQ_API_KEY right?"
            ),
        )
        base = f"{url}/elsewhere/v1"
        assert checked(tmp_path, redis_server.url, GROQ_BASE_URL=base, GROQ_API_KEY="good")[0] == 0


def test_check_says_of_each_key_by_its_name_whether_it_works(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with serving("/v1") as (double, url):
        double.configure(double.settings.changed({"require_key": True, "api_keys": ["gsk_good"]}))
        given = {"CHAT_REDIS_URL": redis_server.url, "GROQ_BASE_URL": url}
        ended = call("check", cwd=tmp_path, GROQ_API_KEYS="main=gsk_good,spare=gsk_bad", **given)
        assert ended.returncode == 1
        assert ended.stdout.splitlines()[-2:] == [
            f"main: The provider at {url}/v1 offers 6 models, ours among them.",
            f"spare: The provider refuses us: {url}/v1/models answered 401. Is the key spare right?",
        ]
        assert ended.stderr.splitlines()[-1] == "chat: Of the provider's keys these do not work: spare."
        assert "gsk_" not in ended.stdout + ended.stderr


def test_a_provider_that_is_away_is_told_and_may_come_back(tmp_path: Path, redis_server: RedisServer) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    status, line = checked(tmp_path, redis_server.url, GROQ_BASE_URL=url)
    assert status == 0
    assert line.startswith(f"The provider cannot be reached at {url}/openai/v1/models (")
