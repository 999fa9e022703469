"""The provider's API keys: GROQ_API_KEY, GROQ_API_KEYS and GROQ_API_KEYS_FILE, each key with a name.

Keys from a file are read again when the file has changed or was replaced (`mv`, a Kubernetes secret). Keys
from the environment stay until the process is renewed. Invariants: a secret is in no `repr`; while a file is
wrong, the keys stay as they were. Limits and states of keys are engine/pacing's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.config.settings import Settings, SettingsError
from service.config.validators import check_readable

#: the name of GROQ_API_KEY
DEFAULT: Final = "default"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_SINGLE, _SEVERAL = "groq_api_key", "groq_api_keys"


@dataclass(frozen=True, slots=True)
class ProviderKey:
    name: str = DEFAULT
    secret: str = field(default="", repr=False)


def parse_keys(text: str, where: str = "GROQ_API_KEYS") -> list[ProviderKey]:
    """Keys as `name=key`, by lines or commas; `#` begins a comment. Raises SettingsError, without keys."""
    found: list[ProviderKey] = []
    for line in text.splitlines():
        for entry in line.partition("#")[0].split(","):
            name, equals, secret = (part.strip() for part in entry.partition("="))
            if not (name or equals):
                continue
            if not _NAME.fullmatch(name) or not secret or not secret.isascii() or " " in secret:
                number = len(found) + 1
                raise SettingsError(
                    f"{where}: entry {number} is not name=key (a name has A-Z a-z 0-9 _ . -)."
                )
            found.append(ProviderKey(name, secret))
    return found


def parse_weights(text: str) -> dict[str, int]:
    """Weights of keys, as in `name=3,other=1`. Raises ValueError."""
    found = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, weight = (part.strip() for part in entry.partition("="))
        if not _NAME.fullmatch(name) or not weight.isascii() or not weight.isdigit() or int(weight) > 1000:
            raise ValueError(f"{entry!r} is not name=weight with a weight from 0 to 1000")
        found[name] = int(weight)
    return found


def check_keys(settings: Settings) -> None:
    """Raises SettingsError."""
    try:
        parse_weights(settings.provider_key_weights or "")
    except ValueError as error:
        raise SettingsError(f"CHAT_PROVIDER_KEY_WEIGHTS: {error}.") from None
    if not KeySource(settings).read() and settings.production:
        raise SettingsError("GROQ_API_KEY: is missing; GROQ_API_KEYS and its file name no key.")


class KeySource:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told = {
            name: value.get_secret_value() if value else ""
            for name, value in ((_SINGLE, settings.groq_api_key), (_SEVERAL, settings.groq_api_keys))
        }
        # The environment and `.env` win over these files: only what came from a file is read again.
        self._files = {
            name: settings.secrets_dir / name
            for name, value in self._told.items()
            if not value or value == _text(settings.secrets_dir / name)
        }
        self._seen = self._signatures()

    def read(self) -> tuple[ProviderKey, ...]:
        """All keys, in the order in which they are used. Raises SettingsError."""
        told = {
            name: _text(self._files[name]) if name in self._files else self._told[name] for name in self._told
        }
        found = [ProviderKey(DEFAULT, told[_SINGLE])] if told[_SINGLE] else []
        found += parse_keys(told[_SEVERAL])
        file = self._settings.groq_api_keys_file
        if file is not None:
            try:
                found += parse_keys(file.read_text(encoding="utf-8"), "GROQ_API_KEYS_FILE")
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    f"GROQ_API_KEYS_FILE: {file} cannot be read ({type(error).__name__})."
                ) from None
        names = [key.name for key in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SettingsError(f"GROQ_API_KEYS: {', '.join(twice)} is named twice.")
        return tuple(found)

    def changed(self) -> bool:
        """Has a file changed since the last call?"""
        before, self._seen = self._seen, self._signatures()
        return before != self._seen

    def _signatures(self) -> list[tuple[int, ...]]:
        files = list(self._files.values())
        if self._settings.groq_api_keys_file is not None:
            files.append(self._settings.groq_api_keys_file)
        return [_signature(file) for file in files]


def _signature(file: Path) -> tuple[int, ...]:
    """Changes when the file or its content changes; () where there is no file."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _text(file: Path) -> str:
    try:
        check_readable(file)
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
