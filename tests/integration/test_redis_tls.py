"""A Redis behind TLS and a password: `rediss://` with a certificate authority of one's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.double import Double, expected_text
from tests.support.needed import program
from tests.support.redis import free_port
from tests.support.service import serve
from tests.support.waiting import eventually


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server that speaks TLS only, with a certificate that signs itself."""
    server_program, openssl = program("redis-server"), program("openssl")
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    port = free_port()
    server = subprocess.Popen(
        [
            server_program,
            "--port",
            "0",
            "--tls-port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--requirepass",
            "p@ss/word",
            "--tls-cert-file",
            "cert.pem",
            "--tls-key-file",
            "key.pem",
            "--tls-ca-cert-file",
            "cert.pem",
            "--tls-auth-clients",
            "no",
            "--save",
            "",
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"rediss://:p%40ss%2Fword@127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/cert.pem"

    def answers() -> bool:
        try:
            with redis.Redis.from_url(url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    try:
        eventually(answers, within=10)
        yield url
    finally:
        server.kill()
        server.wait(10)


async def test_turns_run_over_tls_with_a_password(
    url: str, double: Double, double_server: tuple[Double, str]
) -> None:
    async with serve(url, double_server[1]) as served:
        answer = await served.client.post("/chat", json={"user_query": "[[tokens=50 rate=200]]"})
        assert answer.text == expected_text(50, 0)
        assert (await served.client.get("/readyz")).status_code == 200
    wrong = url.replace("p%40ss", "wrong")
    async with serve(wrong, double_server[1]) as served:
        answer = await served.client.post("/chat", json={"user_query": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
