"""The chat page: its files, read once at startup and answered from memory.

`GET /ui` is the page and `/ui/*` what it is made of; `GET /` gives it to browsers (api/routes/health.py).
Every response has an ETag and is revalidated at each load (a 304 has no body), so that after a deploy
old and new modules are mixed for one load at most. There are no templates and no state: the page asks
the API. Only how to sign in it reads from `/ui/sign-in.json`, before it has a credential.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from service.api.accept import has_already, quality
from service.config.identity import origin_of
from service.config.settings import Settings
from service.errors import ServiceError

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).resolve().parents[2] / "web"
_INDEX: Final = "index.html"
_SIGN_IN: Final = "sign-in.json"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}
# Nothing inline, nothing from other origins: a model's output can do no more than be shown as text.
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class File:
    kind: str
    plain: bytes
    packed: bytes
    etag: str

    @classmethod
    def read(cls, path: Path) -> File:
        return cls.of(_TYPES.get(path.suffix, "text/plain; charset=utf-8"), path.read_bytes())

    @classmethod
    def of(cls, kind: str, plain: bytes) -> File:
        etag = hashlib.sha256(plain).hexdigest()[:24]
        return cls(kind=kind, plain=plain, packed=gzip.compress(plain, mtime=0), etag=etag)


class Page:
    def __init__(self, files: dict[str, File], headers: Mapping[str, str]) -> None:
        self._files = files
        self._headers = headers

    @classmethod
    def load(cls, settings: Settings) -> Page:
        """Raises FileNotFoundError when the package came without its page."""
        sign_in = sign_in_by(settings)
        file = File.of("application/json", orjson.dumps(sign_in))
        origins = " ".join(("'self'", *(sign_in["oidc"] or {}).get("origins", ())))
        policy = _CSP.replace("connect-src 'self'", f"connect-src {origins}")
        return cls({**_files(), _SIGN_IN: file}, {**HEADERS, "Content-Security-Policy": policy})

    def respond(self, request: Request, name: str = _INDEX) -> Response:
        """Raises not_found."""
        file = self._files.get(name)
        if file is None:
            raise ServiceError("not_found", "There is nothing at this address.")
        packed = quality(request.headers.get("accept-encoding", ""), "gzip") > 0
        etag = f'"{file.etag}-gz"' if packed else f'"{file.etag}"'
        headers = {**self._headers, "ETag": etag, "Vary": "Accept, Accept-Encoding"}
        if has_already(request, etag):
            return Response(status_code=304, headers=headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        return Response(file.packed if packed else file.plain, media_type=file.kind, headers=headers)


@cache  # a process reads and packs its 90 files once (25 ms)
def _files() -> dict[str, File]:
    paths = [path for path in _FOLDER.rglob("*") if path.is_file()]
    files = {path.relative_to(_FOLDER).as_posix(): File.read(path) for path in paths}
    if _INDEX not in files:
        raise FileNotFoundError(_FOLDER / _INDEX)
    return files


def sign_in_by(settings: Settings) -> dict[str, Any]:
    """What the page is told of how to sign in. Anybody may read it."""
    oidc = None
    if settings.oidc_client_id:
        issuer = settings.jwt_issuer[0]
        origins = [origin_of("CHAT_JWT_ISSUER", issuer)]
        origins += [origin_of("CHAT_OIDC_ORIGINS", one) for one in settings.oidc_origins]
        oidc = {
            "issuer": issuer,
            "client_id": settings.oidc_client_id,
            "scope": settings.oidc_scopes,
            "audience": settings.oidc_audience,
            "token": settings.oidc_token,
            "origins": sorted(set(origins)),
        }
    return {"keys": "keys" in settings.auth, "oidc": oidc}


def page_of(request: Request) -> Page:
    page: Page = request.app.state.page
    return page


@router.get("/ui", summary="The chat page")
async def index(request: Request) -> Response:
    return page_of(request).respond(request)


@router.get("/ui/", summary="The chat page's address is /ui")
async def slash(request: Request) -> Response:
    # The page names its files relative to itself, so that it works below any prefix of a proxy.
    return RedirectResponse("../ui", status_code=308)


@router.get("/ui/{name:path}", summary="A file of the chat page")
async def file(request: Request, name: str) -> Response:
    return page_of(request).respond(request, name)


def prefers_html(accept: str) -> bool:
    """True for browsers. `*/*`, no header and equal q mean JSON."""
    return quality(accept, "text/html") > quality(accept, "application/json")
