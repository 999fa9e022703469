"""The double behind a real server, and the real SDK in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import groq
import httpx
import pytest

from service.double import Double, create_double, running


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Double, str]]:
    double = create_double(rate=0)
    with running(double) as url:
        yield double, url


@pytest.fixture
def double(served: tuple[Double, str]) -> Iterator[Double]:
    double, _ = served
    before = double.settings
    yield double
    double.faults.clear()
    double.configure(before)


@pytest.fixture
async def http(served: tuple[Double, str], double: Double) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served[1], timeout=10) as client:
        yield client


@pytest.fixture
async def client(served: tuple[Double, str], double: Double) -> AsyncIterator[groq.AsyncGroq]:
    async with groq.AsyncGroq(api_key="gsk_test", base_url=served[1], max_retries=0, timeout=10) as client:
        yield client
