"""What CHAT_HOSTS and CHAT_CORS_ORIGINS may say, and the patterns that they become.

Both lists are compared with what browsers send, so an entry is brought into the form that browsers
use: lower case, IDNs in ASCII, no default port. An entry that no request could match is refused with
a sentence. Which requests pass is decided by api/hosts.py and api/origins.py.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_LABEL: Final = "[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
#: a name or an address in brackets, then a port
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\[\]:/@?#\s]*)(:(?P<port>[0-9]*))?")
#: what `*.` stands for: one or more labels
_SUBDOMAINS: Final = r"([a-z0-9_-]+\.)+"
# Schemes of pages without an origin of their own: browsers send `null`.
_OPAQUE: Final = ("about", "blob", "data", "javascript")


def split_host(text: str) -> tuple[str, str] | None:
    """The name or address, and the port ("" without one), of a Host header. None where it is no host.

    Names in lower case without the dot at their end; IPv6 addresses without brackets and in their
    short form; an IPv4 address that is written as IPv6 (`::ffff:127.0.0.1`) as IPv4.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    name, port = found["name"].lower(), found["port"] or ""
    if name.startswith("["):
        try:
            address = ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return None
        return str(address.ipv4_mapped or address), port
    name = name.removesuffix(".")
    return (name, port) if _NAME.fullmatch(name) else None


def is_loopback(name: str) -> bool:
    """True for `localhost` and for the addresses of this machine to itself, as split_host gives them."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_pattern(text: str) -> str:
    """An entry of CHAT_HOSTS as a pattern for `name:port` of split_host. Raises ValueError."""
    if text == "*":
        return ".*"
    bare = text.count(":") > 1 and not text.startswith("[")  # an IPv6 address without brackets
    prefix, rest = _wildcard(f"[{text}]" if bare else text)
    found = split_host(_ascii(rest))
    if found is None or (found[1] and not _is_port(found[1])) or rest.endswith(":"):
        raise ValueError(
            f"{text!r} is not a host like chat.example.com, chat.example.com:8080, *.example.com or [::1]"
        )
    name, port = found
    if port in _DEFAULT_PORTS.values():
        port = f"({port})?"  # which browsers leave out
    return f"{prefix}{re.escape(name)}:{port or '[0-9]*'}"


def origin_pattern(text: str) -> str:
    """An entry of CHAT_CORS_ORIGINS as a pattern for the Origin header. Raises ValueError."""
    if text == "*":
        return ".*"
    scheme, mark, rest = text.partition("://")
    scheme = scheme.lower()
    if not mark or not _SCHEME.fullmatch(scheme) or re.search(r"[/@?#\s]", rest) or scheme in _OPAQUE:
        raise ValueError(f"{text!r} is not an origin like https://app.example.com (no path)")
    if scheme in ("ws", "wss"):
        raise ValueError(f"{text!r} is not an origin: pages have http:// or https://")
    if scheme not in _DEFAULT_PORTS:
        # The scheme of an app or an extension. Some have no host (app://), and moz-extension:// has another
        # one in each installation, so `*` may stand for the whole host.
        if "*" in rest.replace("*", "", 1) or ("*" in rest and rest != "*"):
            raise ValueError(f"{text!r}: after {scheme}:// comes a host, or * for all")
        return f"{scheme}://{'.*' if rest == '*' else re.escape(rest.lower())}"
    return _web_origin(text, scheme, rest)


def _web_origin(text: str, scheme: str, rest: str) -> str:
    any_port = rest.endswith(":*")
    try:
        prefix, plain = _wildcard(rest.removesuffix(":*"))
    except ValueError:
        raise ValueError(
            f"{text!r}: * stands for all subdomains (https://*.example.com) or all ports (http://localhost:*)"
        ) from None
    found = split_host(_ascii(plain))
    if found is None or (found[1] and not _is_port(found[1])):
        raise ValueError(f"{text!r} is not an origin like https://app.example.com (no path)")
    name, port = found
    if prefix and "." not in name and name != "localhost":
        raise ValueError(f"{text!r} would let in every site of a top-level domain; name the domain")
    where = f"[{name}]" if ":" in name else name
    if any_port:
        return f"{scheme}://{prefix}{re.escape(where)}(:[0-9]+)?"
    # Browsers leave the default port out, and other clients may not.
    own = f"(:{port or _DEFAULT_PORTS[scheme]})?" if port in ("", _DEFAULT_PORTS[scheme]) else f":{port}"
    return f"{scheme}://{prefix}{re.escape(where)}{own}"


def any_of(patterns: list[str]) -> re.Pattern[str]:
    """One pattern for whole texts, whatever their case; it matches nothing if there is none."""
    return re.compile("(?i)" + ("|".join(f"(?:{one})" for one in patterns) or "(?!)"))


def own_origin(origin: str, host: str) -> bool:
    """Is this the origin of a page that came from this Host? The scheme is a proxy's and not compared."""
    scheme, _, where = origin.partition("://")
    page, ours = split_host(where), split_host(host)
    if scheme not in _DEFAULT_PORTS or page is None or ours is None:
        return False
    default = _DEFAULT_PORTS[scheme]
    return (page[0], page[1] or default) == (ours[0], ours[1] or default)


def _wildcard(text: str) -> tuple[str, str]:
    """The pattern for `*.` at the start, and what follows it. Raises ValueError for any other star."""
    prefix, rest = (_SUBDOMAINS, text[2:]) if text.startswith("*.") else ("", text)
    if "*" in rest or (prefix and re.fullmatch(r"[0-9.]+(:[0-9]+)?|\[.*", rest)):
        raise ValueError(f"{text!r}: * stands for all subdomains only, like *.example.com")
    return prefix, rest


def _is_port(text: str) -> bool:
    return bool(_PORT.fullmatch(text)) and 0 < int(text) <= 65535


def _ascii(text: str) -> str:
    """A name with letters beyond ASCII as browsers send it (`bücher.example` -> `xn--bcher-kva.example`)."""
    if text.isascii():
        return text
    name, colon, port = text.partition(":")
    try:
        return name.encode("idna").decode() + colon + port
    except UnicodeError:
        return text
