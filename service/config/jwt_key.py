"""What CHAT_JWT_KEY is: the issuer's public key in any form that it is handed out in, or a secret.

A public key that is taken for an HMAC secret lets everybody sign tokens. So a text that decodes as a key, or
names a file, is used as that or refused. Only other texts are secrets, and identity.py takes these only
where CHAT_JWT_ALGORITHMS asks for HMAC. Each ValueError is a sentence that begins with the setting's
name and quotes nothing of the value. Imported where JWTs are in use only.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_public_key,
    load_ssh_public_key,
)
from jwt.algorithms import get_default_algorithms

from service.config.validators import JWT_ASYMMETRIC

#: key id -> algorithm -> key
Keys = dict[str | None, dict[str, jwt.PyJWK]]

_LARGEST_FILE: Final = 262_144  # a JWKS with some certificates has 10 KiB
_SUFFIXES: Final = (
    ".pem",
    ".pub",
    ".crt",
    ".cer",
    ".cert",
    ".der",
    ".key",
    ".json",
    ".jwk",
    ".jwks",
    ".txt",
)
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_ARMOUR: Final = re.compile(r"-{4,5} ?BEGIN ")  # of PEM, and of SSH2 with four dashes
_SSH: Final = re.compile(r"(ssh-|ecdsa-sha2-|sk-)[a-z0-9@.-]+ +[A-Za-z0-9+/=]+")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=\s-]{16,}")
_HEX: Final = re.compile(r"[0-9A-Fa-f:\s]{16,}")
_USABLE: Final = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
#: the object identifiers near the beginning of EC and of Ed25519 keys
_NAMES_OF_KEYS: Final = (b"\x06\x07\x2a\x86\x48\xce\x3d", b"\x06\x03\x2b\x65")
_FAILURES: Final = (ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True)
class JwtKey:
    """One of three: a secret shared with the issuer, a public key as PEM, a JWKS."""

    secret: str = ""
    pem: str = ""
    jwks: dict[str, Any] | None = None


def read_key(text: str) -> JwtKey:
    """Raises ValueError."""
    if re.match(r"\s*https?://", text, re.IGNORECASE):
        raise ValueError("CHAT_JWT_KEY: is a URL; where the issuer publishes its keys is CHAT_JWT_JWKS_URL")
    if (file := _named_file(text)) is not None:
        content = _content(file)
        found = _public(content)
        if found is None:
            secret = _text(content).rstrip("\r\n")
            if not secret.strip() or _named_file(secret) is not None:
                raise ValueError(f"CHAT_JWT_KEY: the file {file} holds no key")
            found = JwtKey(secret=secret)
        return found
    return _public(text.encode("utf-8", "surrogateescape")) or JwtKey(secret=text)


def check_key(key: JwtKey, allowed: Iterable[str]) -> None:
    """Checks that an allowed algorithm can use a public key. Raises ValueError."""
    if key.jwks is not None:
        if not usable_keys(key.jwks, tuple(allowed)):
            raise ValueError(
                f"CHAT_JWT_KEY: the JWK holds no public key for {', '.join(allowed)};"
                " CHAT_JWT_ALGORITHMS names others"
            )
    elif key.pem:
        fitting = [name for name in JWT_ASYMMETRIC if _fits(name, key.pem)]
        if not set(fitting) & set(allowed):
            raise ValueError(
                f"CHAT_JWT_KEY: the public key is none for {', '.join(allowed)};"
                f" set CHAT_JWT_ALGORITHMS to one of {', '.join(fitting)}"
            )


def usable_keys(document: Any, algorithms: tuple[str, ...]) -> Keys:
    """The public signing keys of a JWKS. If there is one only, it also verifies tokens without a key id."""
    found: Keys = {}
    entries = document.get("keys") if isinstance(document, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        if not all(isinstance(entry.get(name), str | None) for name in ("kid", "alg")):
            continue
        made = _for_each_algorithm(entry, algorithms)
        if made:
            found[entry.get("kid")] = made
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found


def _for_each_algorithm(entry: dict[str, Any], allowed: tuple[str, ...]) -> dict[str, jwt.PyJWK]:
    """A published key, for the allowed algorithms that it may be used with."""
    named = entry.get("alg")
    if named and named not in allowed:
        return {}
    names: tuple[str | None, ...] = (named,)
    if not named and entry.get("kty") == "RSA":
        # `alg` is optional, and an RSA key fits several algorithms; PyJWT alone would take RS256.
        names = tuple(name for name in allowed if name.startswith(("RS", "PS")))
    made = {}
    for name in names:
        try:
            key = jwt.PyJWK(entry, algorithm=name)
        except jwt.PyJWTError:
            continue  # an unknown kind of key; others of the set may be known
        if key.algorithm_name in allowed:
            made[key.algorithm_name] = key
    return made


def _fits(algorithm: str, pem: str) -> bool:
    try:
        get_default_algorithms()[algorithm].prepare_key(pem)
    except (jwt.PyJWTError, *_FAILURES):
        return False
    return True


# -- files


def _named_file(text: str) -> Path | None:
    """The file that a text names, if it looks like a name. The file need not exist."""
    text = text.strip()
    if not text or "\n" in text or "\\n" in text or "\0" in text or len(text) > 4096:
        return None
    if text.startswith("file:"):
        return Path("/" + text.removeprefix("file:").lstrip("/"))
    try:
        path = Path(text).expanduser()
        # Secrets in base64 may begin with a slash, but hardly with the name of a folder of the root.
        absolute = path.is_absolute() and len(path.parts) > 1 and Path(*path.parts[:2]).exists()
        if absolute or text.startswith(("./", "../", "~/")) or path.suffix.lower() in _SUFFIXES:
            return path
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, no home
        return None


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_FILE + 1)
    except OSError as error:
        # Without the name: it may be a secret that only looks like a name.
        raise ValueError(
            f"CHAT_JWT_KEY: looks like the name of a file, which cannot be read ({error.strerror})"
        ) from None
    if len(content) > _LARGEST_FILE:
        raise ValueError("CHAT_JWT_KEY: the file is too large to be a key")
    return content


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("CHAT_JWT_KEY: is neither text nor a public key in DER") from None


# -- forms of public keys


def _public(content: bytes, *, decoded: bool = False) -> JwtKey | None:
    """A public key in any form, None where the text is none. Raises ValueError for unusable keys."""
    if content[:1] == b"\x30" and (found := _of_der(content)) is not None:
        return found
    text = content.decode("utf-8-sig", "replace").strip()
    if _ARMOUR.search(text):
        return _of_pem(text)
    if text[:1] in "{[" and text:
        return _of_json(text, decoded=decoded)
    if _SSH.match(text):
        try:
            return _as_pem(load_ssh_public_key(text.encode()))
        except _FAILURES:
            raise _unreadable("SSH key") from None
    if not decoded:
        for inner in _decodings(text):
            if (found := _public(inner, decoded=True)) is not None:
                return found
    return None


def _decodings(text: str) -> Iterator[bytes]:
    if _HEX.fullmatch(text):
        digits = re.sub(r"[:\s]", "", text)
        yield bytes.fromhex(digits[: len(digits) // 2 * 2])
    if _BASE64.fullmatch(text):
        letters = re.sub(r"[=\s]", "", text).translate(str.maketrans("-_", "+/"))
        if len(letters) % 4 == 1:
            letters = letters[:-1]  # cut short: the rest may still show that it is a key
        yield base64.b64decode(letters + "=" * (-len(letters) % 4))


def _of_der(content: bytes) -> JwtKey | None:
    with suppress(*_FAILURES):
        return _as_pem(load_der_public_key(content))
    with suppress(*_FAILURES):
        return _as_pem(x509.load_der_x509_certificate(content).public_key())
    try:
        load_der_private_key(content, None)
    except _FAILURES:
        if _begins_der(content):
            raise _unreadable("DER") from None
        return None
    raise _private()


def _begins_der(content: bytes) -> bool:
    """Does it begin as DER does? Then it is a key of an unknown kind, or one that was cut short."""
    if content[1:2] in (b"\x81", b"\x82"):
        return any(content[at : at + 1] in (b"\x30", b"\x02") for at in (3, 4))
    return any(name in content[:16] for name in _NAMES_OF_KEYS)


def _of_pem(text: str) -> JwtKey:
    blocks = _PEM.findall(text.replace("\\n", "\n").replace("\\r", ""))
    if any("PRIVATE" in label for label, _ in blocks) or "PRIVATE KEY" in text:
        raise _private()
    if len(blocks) > 1:
        raise ValueError("CHAT_JWT_KEY: holds several keys; several are a JWKS, or CHAT_JWT_JWKS_URL")
    try:
        # In an .env file or a shell its lines may have become one, parted by blanks.
        label, body = blocks[0][0], re.sub(r"[\s\"']", "", blocks[0][1])
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        pem = f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()
        if label == "CERTIFICATE":
            return _as_pem(x509.load_pem_x509_certificate(pem).public_key())
        return _as_pem(load_pem_public_key(pem))
    except (IndexError, *_FAILURES):
        raise _unreadable("PEM") from None


def _of_json(text: str, *, decoded: bool) -> JwtKey | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if (text[-1] in "}]" and not decoded) or re.search("kty|keys", text):
            raise ValueError("CHAT_JWT_KEY: looks like a JWK and is not valid JSON") from None
        return None  # a secret may begin like that
    entries = found.get("keys", [found]) if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(one, dict) and "kty" in one for one in entries):
        raise ValueError("CHAT_JWT_KEY: is JSON, but neither a JWK nor a JWKS")
    if any("d" in one for one in entries):
        raise _private()
    if entries and all(one["kty"] == "oct" for one in entries):
        raise ValueError(
            "CHAT_JWT_KEY: is a symmetric JWK; set it to the secret itself (its k, decoded from base64url)"
        )
    return JwtKey(jwks={"keys": entries})


def _as_pem(key: object) -> JwtKey:
    """Raises ValueError for kinds that sign no JWTs (DSA, X25519)."""
    if not isinstance(key, _USABLE):
        raise ValueError("a kind of key that no algorithm uses")
    return JwtKey(pem=key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def _unreadable(form: str) -> ValueError:
    return ValueError(f"CHAT_JWT_KEY: the {form} cannot be read; it has to hold an RSA, EC or Ed25519 key")


def _private() -> ValueError:
    return ValueError(
        "CHAT_JWT_KEY: is a private key; it has to hold the issuer's public key (BEGIN PUBLIC KEY)"
    )
