"""An issuer of JWTs for tests: keys of each kind, tokens, and a JWKS address over real HTTP."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SECRET = "a secret of at least 32 characters"
ISSUER = "https://issuer.example/"
AUDIENCE = "chat"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def private_key(algorithm: str, which: int = 0) -> PrivateKey:
    if algorithm.startswith("ES"):
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(key: PrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def public_jwk(key: PrivateKey, key_id: str | None = None, **fields: Any) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        found = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    else:
        found = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    return {**found, "use": "sig", **({"kid": key_id} if key_id else {}), **fields}


def token(
    subject: Any = "alice",
    *,
    key: Any = SECRET,
    algorithm: str = "HS256",
    key_id: str | None = None,
    lives: float = 60,
    without: tuple[str, ...] = (),
    **claims: Any,
) -> str:
    now = time.time()
    body = {
        "sub": subject,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(now + lives),
        "iat": int(now),
        **claims,
    }
    for name in without:
        del body[name]
    return jwt.encode(body, key, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


class Issuer:
    """What the JWKS address answers; `asked` counts."""

    def __init__(self) -> None:
        self.document: Any = {"keys": []}
        self.body: bytes | None = None
        self.status = 200
        self.asked = 0
        self.url = ""

    def publish(self, *keys: dict[str, Any]) -> None:
        self.document = {"keys": list(keys)}


@contextlib.contextmanager
def issuing() -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            body = json.dumps(issuer.document).encode() if issuer.body is None else issuer.body
            self.send_response(issuer.status)
            self.send_header("content-length", str(len(body)))
            if issuer.status in (301, 302):
                self.send_header("location", issuer.url)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}/jwks.json"
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
