"""Checks of the settings for JWTs and for the sign-in against each other. Forms of keys are jwt_key.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.config.hosts import is_loopback, split_host
from service.config.validators import JWT_ASYMMETRIC, JWT_SYMMETRIC, SHORTEST_SECRET

if TYPE_CHECKING:
    from service.config.settings import Settings


def check_jwt(settings: Settings) -> None:
    """One kind of key and algorithms of its kind: a public key must never verify an HMAC."""
    if bool(settings.jwt_key) == bool(settings.jwt_jwks_url):
        raise ValueError("CHAT_AUTH: jwt needs either CHAT_JWT_KEY or CHAT_JWT_JWKS_URL")
    secret = _check_key(settings, settings.jwt_key.get_secret_value()) if settings.jwt_key else False
    wrong = set(settings.jwt_algorithms or ()) - set(JWT_SYMMETRIC if secret else JWT_ASYMMETRIC)
    if wrong:
        kind = "a plain secret" if secret else "public keys"
        raise ValueError(f"CHAT_JWT_ALGORITHMS: {', '.join(sorted(wrong))} cannot be used with {kind}")
    if not settings.production:
        return
    if settings.jwks_in_plain:
        raise ValueError(
            "CHAT_JWT_JWKS_URL: has to be https:// in production;"
            " whoever is on the way of http:// can put in a key of his own"
        )
    if not settings.jwt_issuer:
        raise ValueError("CHAT_JWT_ISSUER: is missing; production takes tokens of named issuers only")
    if not settings.jwt_audience:
        raise ValueError(
            "CHAT_JWT_AUDIENCE: is missing; production takes tokens for named audiences only,"
            " * says that the issuer's tokens need none"
        )


def _check_key(settings: Settings, text: str) -> bool:
    """Is CHAT_JWT_KEY a secret? CHAT_JWT_ALGORITHMS has to say so: it may be an unknown form of a key."""
    # Imported here: most services verify no JWTs, and need not load PyJWT.
    from service.config.jwt_key import check_key, read_key

    key = read_key(text)
    if not key.secret:
        asymmetric = [name for name in settings.jwt_allowed if name in JWT_ASYMMETRIC]
        if asymmetric:
            check_key(key, asymmetric)
        return False
    if len(key.secret) < SHORTEST_SECRET and settings.production:
        raise ValueError(f"CHAT_JWT_KEY: an HMAC secret has at least {SHORTEST_SECRET} characters")
    if not settings.jwt_algorithms:
        raise ValueError(
            "CHAT_JWT_KEY: is no public key (PEM, JWK, or a file with one); if it is a secret that is"
            " shared with the issuer, set CHAT_JWT_ALGORITHMS=HS256"
        )
    return True


def check_oidc(settings: Settings) -> None:
    """Checks that the page can sign in, and that the service takes the tokens that the page gets."""
    if "jwt" not in settings.auth:
        raise ValueError("CHAT_OIDC_CLIENT_ID: needs jwt in CHAT_AUTH, which takes the tokens of the sign-in")
    if not settings.jwt_issuer:
        raise ValueError("CHAT_OIDC_CLIENT_ID: needs CHAT_JWT_ISSUER; the page signs in at the first of them")
    for name, url in (
        ("CHAT_JWT_ISSUER", settings.jwt_issuer[0]),
        *(("CHAT_OIDC_ORIGINS", one) for one in settings.oidc_origins),
    ):
        origin_of(name, url)
    if "openid" not in settings.oidc_scopes.split():
        raise ValueError("CHAT_OIDC_SCOPES: has to hold openid")
    accepted = settings.jwt_audience
    if settings.oidc_token == "id" and accepted and not {"*", settings.oidc_client_id} & set(accepted):
        raise ValueError(
            "CHAT_OIDC_TOKEN: the audience of an id token is CHAT_OIDC_CLIENT_ID;"
            " add that to CHAT_JWT_AUDIENCE, or take access tokens"
        )


def origin_of(name: str, url: str) -> str:
    """The origin of a URL that the page may call: https, or this machine. Raises ValueError."""
    try:
        parts = urlsplit(url)
        host = split_host(parts.netloc)
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("https", "http") or parts.query or parts.fragment:
        raise ValueError(
            f"{name}: the page cannot sign in there; an address looks like https://id.example.com"
        )
    if parts.scheme == "http" and not is_loopback(host[0]):
        raise ValueError(f"{name}: has to be https://; the page fetches no tokens over plain http")
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(':')}"
