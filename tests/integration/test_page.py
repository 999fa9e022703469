"""How the chat page is served: who gets it, with what headers, from what files."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

import service
from service.api.accept import quality
from service.api.routes.page import prefers_html
from service.demo.examples import ANSWERS
from tests.conftest import Start
from tests.support.issuer import private_key, public_pem
from tests.support.service import Served

WEB = Path(service.__file__).parent / "web"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def test_browsers_get_the_page_and_programs_the_sign_of_life(served: Served) -> None:
    page = await served.client.get("/", headers={"Accept": BROWSER})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == (WEB / "index.html").read_text()
    for accept in ("*/*", "application/json", ""):
        answer = await served.client.get("/", headers={"Accept": accept})
        assert answer.json() == {"message": "AI Chat Backend is running"}
        assert "Accept" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/*", True),
        ("text/html;q=0.5, application/json;q=0.1", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html, application/json", False),
        ("text/html;q=0.1, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("application/json, text/plain, */*", False),
        ("TEXT/HTML", True),
    ],
)
def test_the_accept_header_decides(accept: str, page: bool) -> None:
    assert prefers_html(accept) is page


def test_the_most_specific_range_counts() -> None:
    assert quality("*/*;q=0.1, text/*;q=0.5, text/html;q=0.9", "text/html") == 0.9
    assert quality("text/*;q=0.5, */*", "text/html") == 0.5
    assert quality("br, gzip;q=0", "gzip") == 0
    assert quality("*", "gzip") == 1


async def test_every_file_of_the_page_is_there_with_its_type_and_the_strict_policy(served: Served) -> None:
    types = {
        ".html": "text/html",
        ".css": "text/css",
        ".js": "text/javascript",
        ".svg": "image/svg+xml",
        ".png": "image/png",
        ".woff2": "font/woff2",
        ".webmanifest": "application/manifest+json",
    }
    files = [path for path in WEB.rglob("*") if path.is_file()]
    assert len(files) > 25
    for path in files:
        answer = await served.client.get(f"/ui/{path.relative_to(WEB).as_posix()}")
        assert answer.status_code == 200, path
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"].startswith(types.get(path.suffix, "text/plain"))
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_without_a_sign_in_the_page_is_told_of_none(served: Served) -> None:
    assert (await served.client.get("/ui/sign-in.json")).json() == {"keys": False, "oidc": None}


async def test_a_sign_in_adds_its_origins_to_the_policy_and_no_others(start: Start) -> None:
    issuer = "https://id.example/realms/one"
    settings = {
        "auth": "keys,jwt",
        "jwt_key": public_pem(private_key("ES256")),
        "jwt_issuer": f"{issuer},https://other.example",
        "oidc_client_id": "page",
        "oidc_scopes": "openid chat",
        "oidc_audience": "https://chat.example",
        "oidc_origins": "https://tokens.example:8443,https://ID.example",
    }
    async with start(**settings) as served:
        told = await served.client.get("/ui/sign-in.json")
        for path in ("/ui", "/ui/js/main.js", "/ui/sign-in.json"):
            policy = (await served.client.get(path)).headers["content-security-policy"]
            assert policy == POLICY.replace(
                "connect-src 'self'", "connect-src 'self' https://id.example https://tokens.example:8443"
            )
    assert told.headers["content-type"] == "application/json"
    assert told.json() == {
        "keys": True,
        "oidc": {
            "issuer": issuer,
            "client_id": "page",
            "scope": "openid chat",
            "audience": "https://chat.example",
            "token": "access",
            "origins": ["https://id.example", "https://tokens.example:8443"],
        },
    }


async def test_what_is_known_is_not_sent_again(served: Served) -> None:
    first = await served.client.get("/ui")
    assert first.headers["cache-control"] == "no-cache"
    known = {"If-None-Match": f'"something-else", W/{first.headers["etag"]}'}
    again = await served.client.get("/ui", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (await served.client.get("/ui", headers={"If-None-Match": '"old"'})).status_code == 200


async def test_files_travel_packed_where_the_client_can_unpack_them(served: Served) -> None:
    packed = await served.client.get("/ui/js/main.js", headers={"Accept-Encoding": "gzip"})
    plain = await served.client.get("/ui/js/main.js", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"].split(", ")
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, mtime=0))


@pytest.mark.parametrize(
    "path", ["/ui/nothing.js", "/ui/../app.py", "/ui/%2e%2e/app.py", "/ui/js", "/ui//etc/passwd"]
)
async def test_nothing_else_is_served(served: Served, path: str) -> None:
    assert (await served.client.get(path)).status_code == 404


async def test_the_address_with_a_slash_leads_to_the_one_without(served: Served) -> None:
    answer = await served.client.get("/ui/")
    assert (answer.status_code, answer.headers["location"]) == (308, "../ui")


def test_nothing_in_the_page_is_inline_or_from_elsewhere() -> None:
    html = (WEB / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", html)
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    for path in [*WEB.glob("*.html"), *WEB.glob("js/*.js"), *WEB.glob("css/*.css")]:
        assert "://" not in path.read_text(), path


def test_the_page_names_only_files_that_exist() -> None:
    html = (WEB / "index.html").read_text()
    named = re.findall(r'(?:href|src)="ui/([^"]+)"', html)
    for path in WEB.glob("js/*.js"):
        for imported in re.findall(r'(?:\bfrom |\bimport |\bimport\()"([^"]+)"', path.read_text()):
            named.append((path.parent / imported).resolve().relative_to(WEB.resolve()).as_posix())
    assert named
    assert [name for name in named if not (WEB / name).is_file()] == []
    loaded = {name for name in named if name.startswith("js/")}
    assert {f"js/{path.name}" for path in WEB.glob("js/*.js")} == loaded


def test_the_first_load_is_small_and_so_is_all_that_may_follow() -> None:
    def packed(path: Path) -> int:
        return len(gzip.compress(path.read_bytes(), mtime=0))

    styles = {f"css/{path.name}" for path in WEB.glob("css/*.css")} - {"css/docs.css"}
    modules = ["js/first.js", "js/main.js"]
    for name in modules:  # what is imported by name; the rest is loaded when it is needed
        for imported in re.findall(r'^import (?:.* from )?"\./([^"]+)";$', (WEB / name).read_text(), re.M):
            if f"js/{imported}" not in modules:
                modules.append(f"js/{imported}")
    first = {"index.html", "icon.svg", *styles, *modules}
    kinds = (".html", ".css", ".js", ".svg", ".woff2")
    every = {path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.suffix in kinds}
    sizes = {name: packed(WEB / name) for name in every}
    assert sum(sizes[name] for name in first) < 72_000
    assert sum(sizes.values()) < 250_000


def test_every_module_says_what_it_is_for() -> None:
    for path in WEB.glob("js/*.js"):
        assert path.read_text().startswith("// "), path


def test_vendored_files_are_those_that_the_table_names() -> None:
    rows = re.findall(
        r"^\| (\S+\.(?:js|css|woff2)) \|.*\| ([0-9a-f]{64}) \|$", (WEB / "vendor/README.md").read_text(), re.M
    )
    assert {name for name, _ in rows} == {
        path.relative_to(WEB / "vendor").as_posix()
        for path in (WEB / "vendor").rglob("*")
        if path.suffix in (".js", ".css", ".woff2")
    }
    for name, digest in rows:
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest


async def test_the_module_is_served_with_a_tag_and_for_every_origin(served: Served) -> None:
    path = "/client/resumable-fetch.js"
    first = await served.client.get(path, headers={"Origin": "https://elsewhere.example"})
    assert first.status_code == 200
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["access-control-allow-origin"] == "*"
    assert "max-age=3600" in first.headers["cache-control"]
    assert "export function resumableFetch" in first.text
    again = await served.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_demo_answers_the_example_prompts() -> None:
    prompts = re.findall(r'^    \["[^"]+", "([^"]+)"\],$', (WEB / "js/texts.en.js").read_text(), re.M)
    assert prompts == list(ANSWERS)
