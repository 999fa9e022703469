"""Signing in at a provider of OpenID Connect: there and back, by itself, out, and what may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Special, Visit
from tests.browser.test_access import findings
from tests.browser.test_refusals import new_key
from tests.browser.ui import Ui, saying
from tests.double import Double, expected_text
from tests.support.nginx import Nginx
from tests.support.oidc import CLIENT, Provider, providing
from tests.support.processes import Replica
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

TITLE: Final = "Sign in to chat"
KEPT: Final = "JSON.stringify([{...localStorage}, {...sessionStorage}])"


@pytest.fixture(scope="module")
def one_provider() -> Iterator[Provider]:
    with providing() as found:
        yield found


@pytest.fixture
def provider(one_provider: Provider) -> Provider:
    one_provider.forget()
    return one_provider


def settings(provider: Provider, **more: Any) -> dict[str, Any]:
    return {
        "auth": "jwt",
        "jwt_issuer": provider.url,
        "jwt_audience": "chat",
        "jwt_jwks_url": f"{provider.url}/jwks.json",
        "oidc_client_id": CLIENT,
        **more,
    }


@pytest.fixture(scope="module")
def guarded(
    one_provider: Provider,
    redis_server: RedisServer,
    double_server: tuple[Double, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Replica]:
    folder = tmp_path_factory.mktemp("guarded")
    own = settings(one_provider)
    replica = Replica(folder, "run", redis_url=redis_server.url, GROQ_BASE_URL=double_server[1], **own)
    yield replica
    replica.close()


Enter = Callable[..., Ui]


@pytest.fixture
def enter(visit: Visit, guarded: Replica, provider: Provider) -> Enter:
    """Open the page of somebody who is not signed in, and go on to where the provider asks, or beyond."""

    def begin(url: str = guarded.url, path: str = "/", *, through: bool = True, **options: Any) -> Ui:
        provider.callbacks.add(f"{url}/ui")
        ui = visit(url, path, **options)
        ui.others.add(provider.url.removeprefix("http://"))
        expect(ui.dialog.get_by_role("heading", name=TITLE)).to_be_visible()
        if through:
            sign_in(ui)
        return ui

    return begin


def sign_in(ui: Ui) -> None:
    ui.page.get_by_role("button", name="Sign in", exact=True).last.click()
    ui.page.get_by_role("button", name="Continue as Ada").click()
    inside(ui)


def inside(ui: Ui) -> None:
    expect(ui.page.get_by_role("button", name="Sign out (Ada)")).to_be_visible()
    expect(ui.dialog).to_have_count(0)


def bearers(ui: Ui) -> list[str]:
    found = [request.headers.get("authorization", "") for request in ui.requests if "/v1/" in request.url]
    return [value.removeprefix("Bearer ") for value in found if value]


@pytest.mark.parametrize(("algorithm", "fragment"), [("RS256", False), ("ES256", True)])
def test_one_signs_in_and_chats_and_neither_code_nor_token_is_left_anywhere(
    enter: Enter, provider: Provider, algorithm: str, fragment: bool
) -> None:
    provider.algorithm, provider.fragment = algorithm, fragment
    ui = enter()
    assert ui.ask(saying("Hello Ada")) == "Hello Ada"
    assert provider.count("/token", grant_type="authorization_code") == 1
    assert "code=" not in ui.page.url
    visited = ui.page.context.new_cdp_session(ui.page).send("Page.getNavigationHistory")
    assert [entry["url"] for entry in visited["entries"] if "code=" in entry["url"]] == []
    kept = ui.page.evaluate(KEPT)
    assert [text for text in (*provider.given, *provider.used) if text in kept] == []
    asked = next(form for path, form in provider.asked if path == "/authorize")
    assert (asked["scope"], asked["response_type"]) == ("openid profile offline_access", "code")
    assert set(bearers(ui)) <= set(provider.given)
    asked_of_provider = [request for request in ui.requests if request.url.startswith(provider.url)]
    assert not [request.url for request in asked_of_provider if "authorization" in request.headers]


def test_a_reload_signs_in_again_by_itself_and_nothing_is_lost(enter: Enter, provider: Provider) -> None:
    ui = enter()
    ui.ask(saying("Hello"))
    ui.field.fill("half a thou")
    chat = ui.address
    ui.page.reload()
    ui.shows("Hello")
    inside(ui)
    expect(ui.field).to_have_value("half a thou")
    assert ui.address == chat
    assert provider.count("/authorize", prompt="none") == 1
    assert provider.count("/login") == 1


def test_an_answer_goes_on_through_a_reload_that_signs_in_again(enter: Enter) -> None:
    ui = enter()
    ui.send("[[tokens=200 rate=40]]")
    ui.shows("#16")
    ui.page.reload()
    ui.done()
    assert ui.copied() == expected_text(200)
    assert ui.questions.count() == 1


def test_who_is_no_longer_signed_in_at_the_provider_is_asked_once(enter: Enter, provider: Provider) -> None:
    ui = enter()
    provider.sessions.clear()
    ui.page.reload()
    expect(ui.dialog.get_by_role("heading", name=TITLE)).to_be_visible()
    expect(ui.dialog.get_by_role("alert")).to_have_count(0)
    assert provider.count("/authorize", prompt="none") == 1
    sign_in(ui)
    ui.ask(saying("Back"))


def test_a_token_is_refreshed_before_it_ends(enter: Enter, provider: Provider) -> None:
    provider.lives = 6
    ui = enter()
    first = bearers(ui)[-1]
    eventually(lambda: provider.count("/token", grant_type="refresh_token") >= 2, within=60)
    provider.lives = 600
    ui.ask(saying("still here"))
    assert bearers(ui)[-1] in provider.given
    assert bearers(ui)[-1] != first
    assert provider.count("/authorize") == 2  # with the one that the sign-in page led to


def test_a_sign_in_that_has_ended_is_told_and_there_is_a_way_back(enter: Enter, provider: Provider) -> None:
    provider.lives = 6
    ui = enter()
    ui.field.fill("half a thou")
    provider.refresh_tokens.clear()
    notice = ui.page.locator("#notice")
    expect(notice).to_contain_text("You have been signed out: your sign-in has ended.")
    expect(ui.dialog).to_have_count(0)
    assert findings(ui) == []
    provider.lives = 600
    notice.get_by_role("button", name="Sign in").click()
    inside(ui)  # the provider still knows who it is
    expect(ui.field).to_have_value("half a thou")


def test_a_question_that_was_sent_too_late_is_asked_after_signing_in_again(
    enter: Enter, provider: Provider
) -> None:
    provider.lives, provider.gives_refresh_tokens = 6, False
    ui = enter()
    expect(ui.page.locator("#notice")).to_contain_text("You have been signed out")
    provider.lives = 600
    ui.send(saying("Here it is"))
    ui.dialog.get_by_role("button", name="Sign in", exact=True).click()
    ui.shows("Here it is")
    assert (ui.questions.count(), ui.answers.count()) == (1, 1)


def test_signing_out_is_for_all_tabs_and_for_the_provider(enter: Enter, provider: Provider) -> None:
    ui = enter()
    other = Ui(ui.page.context.new_page(), ui.url).open()
    inside(other)  # by itself
    other.field.fill("a secret")
    ui.page.get_by_role("button", name="Sign out (Ada)").click()
    for page in (ui, other):
        expect(page.dialog.get_by_role("heading", name=TITLE)).to_be_visible()
        assert "chat.draft" not in page.page.evaluate(KEPT)
        assert "chat.signed-in" not in page.page.evaluate(KEPT)
    assert provider.sessions == set()
    [leave] = [form for path, form in provider.asked if path == "/logout"]
    assert leave["post_logout_redirect_uri"] == f"{ui.url}/ui"
    assert leave["id_token_hint"] in provider.given
    assert provider.count("/revoke") == 1


def test_a_provider_without_a_way_out_is_left_here(enter: Enter, provider: Provider) -> None:
    provider.has_end_session = False
    ui = enter()
    ui.page.get_by_role("button", name="Sign out (Ada)").click()
    expect(ui.dialog.get_by_role("heading", name=TITLE)).to_be_visible()
    assert provider.count("/authorize", prompt="none") == 0
    assert provider.refresh_tokens == set()


def test_somebody_else_finds_nothing_of_whoever_was_here(enter: Enter, provider: Provider) -> None:
    ui = enter()
    ui.field.fill("a secret")
    provider.subject = "grace"
    ui.page.reload()
    expect(ui.page.get_by_role("button", name="Sign out (Grace)")).to_be_visible()
    expect(ui.field).to_have_value("")


@pytest.mark.parametrize("signed_in", [False, True])
def test_an_answer_that_nobody_has_asked_for_opens_nothing(
    enter: Enter, provider: Provider, signed_in: bool
) -> None:
    ui = enter(through=signed_in)
    exchanged = provider.count("/token")
    ui.open("/ui?code=somebody-elses&state=forged")
    expect(ui.dialog).to_contain_text("Signing in did not work (state).")
    assert provider.count("/token") == exchanged
    assert "forged" not in ui.page.url


@pytest.mark.parametrize("spoils", [{"nonce": "old"}, {"iss": "https://else.example"}, {"aud": "other"}])
def test_a_token_that_is_not_for_this_sign_in_is_not_taken(
    enter: Enter, provider: Provider, spoils: dict[str, str]
) -> None:
    provider.spoils = spoils
    ui = enter(through=False)
    ui.dialog.get_by_role("button", name="Sign in").click()
    ui.page.get_by_role("button", name="Continue as Ada").click()
    expect(ui.dialog).to_contain_text("Signing in did not work (id_token).")
    assert bearers(ui) == []


def test_what_the_provider_refuses_is_told(enter: Enter, provider: Provider) -> None:
    provider.error = "access_denied"
    ui = enter(through=False)
    ui.dialog.get_by_role("button", name="Sign in").click()
    expect(ui.dialog).to_contain_text("Signing in did not work (access_denied).")
    assert "state" not in ui.page.url


def test_a_token_that_the_service_does_not_take_leads_round_no_circle(
    enter: Enter, provider: Provider
) -> None:
    provider.audience = "billing"
    ui = enter(through=False)
    ui.dialog.get_by_role("button", name="Sign in").click()
    ui.page.get_by_role("button", name="Continue as Ada").click()
    expect(ui.dialog).to_contain_text("The service did not accept your sign-in.")
    assert provider.count("/token") == 1
    assert provider.count("/authorize") == 2


def test_a_provider_that_is_down_is_told_and_waited_for(enter: Enter, provider: Provider) -> None:
    ui = enter(through=False)
    provider.down = True
    ui.dialog.get_by_role("button", name="Sign in").click()
    expect(ui.dialog).to_contain_text("The sign-in page cannot be reached.")
    provider.down = False
    sign_in(ui)
    provider.down = True
    ui.page.reload()
    expect(ui.dialog).to_contain_text("The sign-in page cannot be reached.")


def test_a_provider_that_is_down_for_a_while_ends_no_sign_in(enter: Enter, provider: Provider) -> None:
    provider.lives = 6
    ui = enter()
    provider.down = True
    eventually(lambda: provider.count("/token", grant_type="refresh_token") >= 2, within=60)
    provider.down, provider.lives = False, 600
    assert ui.ask(saying("Back again")) == "Back again"
    assert provider.count("/login") == 1


def test_keys_and_a_sign_in_are_offered_side_by_side(
    enter: Enter, special: Special, provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    site = special(**settings(provider, auth="keys,jwt", jwt_audience=CLIENT, oidc_token="id"))
    key = new_key(redis_server, tmp_path)
    ui = enter(site.url, through=False)
    assert findings(ui) == []
    ui.dialog.get_by_label("API key", exact=True).fill(key)
    ui.dialog.get_by_label("API key", exact=True).press("Enter")
    expect(ui.dialog).to_have_count(0)
    ui.ask(saying("by key"))
    ui.page.get_by_role("button", name="Sign out", exact=True).click()
    expect(ui.dialog).to_be_visible()
    sign_in(ui)
    ui.ask(saying("by id token"))
    audiences = [httpx.get(f"{site.url}/v1/models", headers={"Authorization": f"Bearer {bearers(ui)[-1]}"})]
    assert [answer.status_code for answer in audiences] == [200]


def test_no_log_of_nginx_or_of_the_service_has_a_code_or_a_token(
    enter: Enter, guarded: Replica, provider: Provider, tmp_path: Path
) -> None:
    nginx = Nginx(tmp_path / "nginx", [guarded.port])
    try:
        ui = enter(nginx.url)
        ui.ask(saying("Hello"))
        ui.page.reload()
        inside(ui)
    finally:
        nginx.close()
    assert len(provider.used) == 2
    logs = [path.read_text() for path in (tmp_path / "nginx").glob("*.log")] + [guarded.log()]
    assert any('"uri":"/ui"' in text for text in logs)
    for secret in (*provider.used, *provider.given):
        assert not any(secret in text for text in logs)
