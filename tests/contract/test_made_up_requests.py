"""Made-up requests to a real replica, always the same: each is answered as the OpenAPI document describes.

A module of its own: to import it is to make the requests, which takes each worker of pytest 3 s of CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import checks

from tests.contract.test_openapi import DOCUMENT
from tests.double import Double
from tests.support.processes import Replica
from tests.support.redis import RedisServer
from tests.support.running import call

# Loaded with this module only (pyproject.toml leaves it out): it takes each process of pytest 0.3 s of CPU.
pytest_plugins = ("schemathesis.pytest.plugin",)

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
schema = schemathesis.openapi.from_dict(DOCUMENT)


class Target:
    """A replica with API keys, and a session and a turn that are there."""

    def __init__(self, replica: Replica, key: str) -> None:
        self.url = replica.url
        self.headers = {"Authorization": f"Bearer {key}"}
        body = {"content": "[[say=hello]]"}
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=30) as client:
            answer = client.post("/v1/sessions/my-chat/turns", json=body)
        self.turn = answer.headers["x-turn-id"]
        self.last = answer.text.count("\nid: ")


@pytest.fixture(scope="session")
def target(double_server: tuple[Double, str], tmp_path_factory: Any) -> Iterator[Target]:
    folder: Path = tmp_path_factory.mktemp("openapi")
    # Of its own: tests in between, in whatever order, empty the run's.
    redis_server = RedisServer(folder / "redis")
    replica = Replica(
        folder,
        redis_url=redis_server.url,
        GROQ_BASE_URL=double_server[1],
        auth="keys",
        limit_sends="100000/minute",
        limit_reads="100000/minute",
    )
    made = call(
        "keys", "create", "--name", "x", "--scopes", "chat,admin", cwd=folder, CHAT_REDIS_URL=redis_server.url
    )
    yield Target(replica, made.stdout.strip())
    replica.close()
    redis_server.close()


@schema.parametrize()
@hypothesis.settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@pytest.mark.timeout(120)
def test_no_request_is_answered_in_a_way_that_is_not_described(
    case: schemathesis.Case[Any], target: Target
) -> None:
    # Half of the requests are for what exists: their bodies and headers get further.
    if len(case.path_parameters.get("session_id", "?")) % 2:
        case.path_parameters |= {"session_id": "my-chat"}
        if "turn_id" in case.path_parameters:
            case.path_parameters |= {"turn_id": target.turn}
    case.call_and_validate(base_url=target.url, headers=target.headers, checks=CHECKS)
