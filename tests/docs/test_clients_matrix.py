"""The table of docs/clients.md: each client has its row, its locked version, and what it is tested for."""

from __future__ import annotations

from tests.clients.matrix import page
from tests.clients.matrix.environments import version
from tests.clients.matrix.table import CLIENTS


def rows() -> list[list[str]]:
    lines = [line for line in page.written().splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_client_has_its_row_and_no_row_is_of_none() -> None:
    told = [(name, address) for name, _, address, *_ in rows()]
    assert told == [(client.name, f"`{client.address}`") for client in CLIENTS]


def test_versions_are_those_of_the_locks() -> None:
    """Of programs it is the one that was asked."""
    for client, row in zip(CLIENTS, rows(), strict=True):
        assert client.runtime == "program" or row[1] == version(client), client.id


def test_each_cell_is_what_the_client_is_tested_for() -> None:
    """Where a program was missing the whole row says so; a client that failed stands in no page."""
    for client, row in zip(CLIENTS, rows(), strict=True):
        if not all(cell.startswith("not run: no ") for cell in row[3:]):
            assert row[3:] == list(page.cells(client).values()), client.id


def test_the_core_is_eight() -> None:
    assert len([client for client in CLIENTS if client.core]) == 8
