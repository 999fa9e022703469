"""What the settings of JWTs must be together. The forms of a key are jwt_key.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """True for a secret, which has to be asked for: what we fail to see as a key may be a public one."""
    # Here only: most services verify no JWTs, and need not load what can.
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
