"""CHAT_HOSTS and CHAT_CORS_ORIGINS: what an entry lets in, and what is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.hosts import Hosts
from service.api.origins import allowed_origins
from service.config.loading import load_settings
from service.config.settings import DEV_ORIGINS, Settings, SettingsError

PRODUCTION: dict[str, Any] = {"env": "production", "groq_api_key": "gsk_x", "redis_url": "redis://h"}


def load(**values: Any) -> Settings:
    return load_settings(_env_file=None, **values)


def takes(hosts: str, given: str, path: str = "/v1/sessions") -> bool:
    scope = {"type": "http", "http_version": "1.1", "path": path, "headers": [(b"host", given.encode())]}
    return Hosts(load(hosts=hosts)).refusal(scope) is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost:1",
        "localhost.",
        "localhost.:8000",
        "localhost:",
        "127.0.0.1",
        "127.0.0.1:65535",
        "127.8.9.10",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:8000",
        "[::FFFF:7f00:1]",
    ],
)
def test_names_of_this_machine_to_itself_are_taken(host: str) -> None:
    assert takes("", host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.nip.io",
        "0.0.0.0:8000",
        "[::]",
        "10.0.0.5",
        "192.168.1.7:8000",
        "127.0.0.1:8000:1",
        "localhost:x",
        "localhost@evil.example",
        "localhost, evil.example",
        "localhost/evil",
        "evil.localhost",
        "::1",
        "[::1",
        "[::1]evil.example",
        "2130706433",
        "127.0.0.01",
        "128.0.0.1",
        "[::ffff:10.0.0.5]",
        "\xff",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not takes("", host)


@pytest.mark.parametrize(
    ("entry", "taken", "refused"),
    [
        ("chat.lan", ["chat.lan", "chat.lan:8080", "CHAT.lan."], ["a.chat.lan", "chat.lan.evil", "chatxlan"]),
        ("Chat.LAN.:8080", ["chat.lan:8080"], ["chat.lan", "chat.lan:80"]),
        ("chat.lan:443", ["chat.lan", "chat.lan:443"], ["chat.lan:8443"]),
        ("*.lan", ["a.lan", "a.b.lan:1"], ["lan", "evil.example", "alan"]),
        ("10.0.0.5", ["10.0.0.5:9", "[::ffff:10.0.0.5]"], ["10.0.0.6", "10.0.0.50"]),
        (
            "[2001:db8::1]:80",
            ["[2001:DB8:0::1]", "[2001:db8::1]:80"],
            ["[2001:db8::1]:8", "[2001:db8::1:80]"],
        ),
        ("2001:db8::1", ["[2001:db8::1]:9"], ["[2001:db8::2]"]),
        ("bücher.example", ["xn--bcher-kva.example"], ["bcher.example"]),
        ("a.lan, my_service:8000", ["a.lan", "my_service:8000"], ["my_service"]),
        ("*", ["whatever.example"], []),
    ],
)
def test_an_entry_of_the_hosts_is_a_name_with_or_without_port(
    entry: str, taken: list[str], refused: list[str]
) -> None:
    assert [host for host in taken if not takes(entry, host)] == []
    assert [host for host in refused if takes(entry, host)] == []
    assert takes(entry, "localhost:8000")


@pytest.mark.parametrize(
    "entry",
    ["http://chat.lan", "chat.lan/x", "chat.lan:x", "chat.lan:0", "a.*.lan", "*lan", "[::1", "a b", "-"],
)
def test_what_is_no_host_is_a_sentence(entry: str) -> None:
    with pytest.raises(SettingsError, match=r"^CHAT_HOSTS: ") as caught:
        load(hosts=entry)
    assert entry in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "taken", "refused"),
    [
        (
            "https://*.example.com",
            ["https://a.example.com", "https://a.b.example.com", "https://a.example.com:443"],
            [
                "https://example.com",
                "http://a.example.com",
                "https://a.example.com.evil.example",
                "https://evilexample.com",
                "https://a.example.com:8443",
                "https://evil.example/.example.com",
            ],
        ),
        ("http://localhost:*", ["http://localhost", "http://localhost:5174"], ["http://localhost.evil:1"]),
        ("https://*.example.com:8443", ["https://a.example.com:8443"], ["https://a.example.com"]),
        ("https://App.Example.com:443", ["https://app.example.com"], ["https://app-example.com"]),
        ("https://bücher.example", ["https://xn--bcher-kva.example"], ["https://bcher.example"]),
        ("http://[::1]:3000", ["http://[::1]:3000"], ["http://[::1]"]),
        ("app://", ["app://"], ["app://x", "https://app"]),
        ("app://.", ["app://."], ["app://x"]),
        ("capacitor://localhost", ["capacitor://localhost"], ["http://localhost", "capacitor://localhostx"]),
        ("ionic://localhost", ["ionic://localhost"], ["ionic://other"]),
        ("tauri://localhost", ["tauri://localhost"], ["https://tauri.localhost"]),
        ("chrome-extension://abcdefgh", ["chrome-extension://abcdefgh"], ["chrome-extension://bcdefgh"]),
        ("moz-extension://*", ["moz-extension://0b5e-11"], ["chrome-extension://0b5e-11", "https://x"]),
        ("https://a.example,https://b.example", ["https://a.example", "https://b.example"], ["null", ""]),
        ("*", ["https://whatever.example", "null"], []),
    ],
)
def test_an_entry_of_the_origins_lets_in_what_browsers_send_for_it(
    entry: str, taken: list[str], refused: list[str]
) -> None:
    allowed = allowed_origins(load(cors_origins=entry))
    assert [origin for origin in taken if not allowed.fullmatch(origin)] == []
    assert [origin for origin in refused if allowed.fullmatch(origin)] == []


@pytest.mark.parametrize(
    "entry",
    [
        "localhost",
        "https://",
        "https://app.example.com/",
        "https://app.example.com/x",
        "https://*",
        "null",
        "https://*.com",
        "https://a.*.com",
        "https://*example.com",
        "https://user@a.example",
        "*.example.com",
        "https://a.example?x",
        "wss://a.example",
        "https://a.example:x",
        "https://a.example:*1",
        "data://x",
        "https://*.10.0.0.1",
        "app://a*",
        "app://x/y",
        "//a.example",
        "https:a.example",
    ],
)
def test_an_origin_that_could_match_nothing_is_a_sentence(entry: str) -> None:
    with pytest.raises(SettingsError, match=r"^CHAT_CORS_ORIGINS: ") as caught:
        load(cors_origins=entry)
    assert entry in str(caught.value)


def test_origins_of_development_servers_are_let_in_on_a_developers_machine_only() -> None:
    assert load().cors_origins == DEV_ORIGINS
    assert load(cors_origins="").cors_origins == ()
    assert load(**PRODUCTION).cors_origins == ()
    assert load(**PRODUCTION, cors_origins="https://a.example").cors_origins == ("https://a.example",)
