"""The API's document: a page of our own without a script, and off where a setting says so."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from service.api.routes.docs import Reference
from tests.conftest import Start
from tests.support.service import Served


class Parts(HTMLParser):
    """What a page is made of: its elements, what it loads and links to, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


async def test_the_page_shows_every_route_without_a_script_and_with_nothing_from_elsewhere(
    served: Served,
) -> None:
    answer = await served.client.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = Parts(answer.text)
    assert not page.tags & {"script", "iframe", "object", "embed", "base", "form", "style"}
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    outside = [one for one in page.addresses if not re.match(r"#|ui/|openapi\.json$", one)]
    assert outside == []
    text = re.sub(r"\s+", " ", " ".join(page.words))
    paths = (await served.client.get("/openapi.json")).json()["paths"]
    names = [f"{method.upper()} {path}" for path, item in paths.items() for method in item]
    assert len(names) > 50
    assert [name for name in names if name not in text] == []
    assert len(page.ids) == len(set(page.ids))
    assert {one[1:] for one in page.addresses if one.startswith("#")} <= set(page.ids)
    for file in {one for one in page.addresses if one.startswith("ui/")}:
        assert (await served.client.get(f"/{file}")).status_code == 200


async def test_its_policy_lets_nothing_run(served: Served) -> None:
    [policy] = (await served.client.get("/docs")).headers.get_list("content-security-policy")
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_examples_are_text_on_the_page(served: Served) -> None:
    document = (await served.client.get("/openapi.json")).json()
    document["info"]["title"] = "<script>alert(1)</script>"
    document["paths"]["/chat"]["post"]["summary"] = "`<img src=x onerror=alert(1)>`"
    page = Parts(Reference(document).html())
    assert not page.tags & {"script", "img"}
    assert "<img src=x onerror=alert(1)>" in page.words


async def test_the_document_and_the_page_are_asked_for_again_by_their_content(served: Served) -> None:
    for path in ("/docs", "/openapi.json"):
        first = await served.client.get(path)
        known = {"If-None-Match": first.headers["etag"]}
        assert (await served.client.get(path, headers=known)).status_code == 304
        head = await served.client.head(path)
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect", "/docs/", "/swagger-ui"])
async def test_there_are_no_other_pages_of_the_api(served: Served, path: str) -> None:
    assert (await served.client.get(path)).status_code == 404


async def test_a_setting_takes_both_away(start: Start) -> None:
    async with start(docs=False) as served:
        for path in ("/docs", "/openapi.json", "/redoc", "/docs/oauth2-redirect"):
            answer = await served.client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
