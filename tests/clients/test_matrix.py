"""Each client, asked its questions: `make test` asks the core, `make clients` all (__main__.py).

A client that fails here and works with OpenAI or Groq has found a fault of ours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.clients.matrix import page
from tests.clients.matrix.environments import install, missing
from tests.clients.matrix.running import SECONDS, ask, differences
from tests.clients.matrix.scenarios import RESULT
from tests.clients.matrix.table import CLIENTS, Client
from tests.double import Double
from tests.support.needed import lacking
from tests.support.service import Served

NAMED = json.loads(os.environ.get("CLIENTS", "null"))
CHOSEN = [client for client in CLIENTS if (client.core if NAMED is None else client.id in NAMED)]


@pytest.mark.timeout(SECONDS + 120)  # an installation, where __main__.py has not done it
@pytest.mark.parametrize("client", CHOSEN, ids=[client.id for client in CHOSEN])
async def test_a_client_works_as_it_comes(
    served: Served, double: Double, client: Client, tmp_path: Path
) -> None:
    if missing(client):
        lacking(f"{client.name} {page.not_run(client)}")
    install(client)
    told = await ask(client, served.url, tmp_path)
    different = differences(client, told)
    _note(client, different)
    assert different == {}
    if "tools" in client.asked() and client.returns_results:
        sent = [message for call in double.calls for message in call.describe()["messages"]]
        assert RESULT in [message["content"] for message in sent if message["role"] == "tool"]


def _note(client: Client, different: dict[str, object]) -> None:
    """For __main__.py: the cells of this client's row."""
    if "CLIENTS_RESULTS" in os.environ:
        cells = page.cells(client) | dict.fromkeys(different, page.NO)
        with Path(os.environ["CLIENTS_RESULTS"]).open("a") as results:
            results.write(json.dumps([client.id, cells]) + "\n")
