"""The real SDK, and plain HTTP, in front of the run's double."""

from __future__ import annotations

from collections.abc import AsyncIterator

import groq
import httpx
import pytest

from tests.double import Double


@pytest.fixture
async def http(double_server: tuple[Double, str], double: Double) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=double_server[1], timeout=10, verify=False) as client:
        yield client


@pytest.fixture
async def client(double_server: tuple[Double, str], double: Double) -> AsyncIterator[groq.AsyncGroq]:
    url = double_server[1]
    async with groq.AsyncGroq(api_key="gsk_test", base_url=url, max_retries=0, timeout=10) as client:
        yield client
