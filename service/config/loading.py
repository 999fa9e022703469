"""Reading the settings from the environment, `.env` and secret files, and saying what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import DotEnvSettingsSource

from service.config.provider_keys import check_keys
from service.config.settings import Settings, SettingsError
from service.config.validators import check_readable, files_in

#: field name -> environment variable
NAMES: Final = {
    name: str(field.validation_alias or f"CHAT_{name.upper()}")
    for name, field in Settings.model_fields.items()
}


def unknown_names() -> list[str]:
    """CHAT_ variables that no setting reads: probably typing errors, worth a warning."""
    in_dotenv = {name.upper() for name in DotEnvSettingsSource(Settings).env_vars}  # read whatever their case
    unknown = {*os.environ, *in_dotenv} - set(NAMES.values())
    return sorted(name for name in unknown if name.startswith("CHAT_"))


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings. Raises SettingsError with one sentence per wrong value."""
    secrets = Path(os.environ.get("CHAT_SECRETS_DIR") or Settings.model_fields["secrets_dir"].default)
    _check_files(secrets, overrides.get("_env_file", ".env"))
    if secrets.is_dir():
        overrides.setdefault("_secrets_dir", secrets)
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_sentences(error)) from None
    check_keys(settings)
    return settings


def _check_files(secrets: Path, env_file: str | None) -> None:
    """Checks that the files of settings can be read; pydantic's errors do not name the file."""
    known = {name.lower() for name in NAMES.values()}
    try:
        if env_file is not None:
            check_readable(Path(env_file))
        for file in files_in(secrets):
            if file.name.lower() in known:
                check_readable(file)
    except ValueError as error:
        raise SettingsError(f"{error}.") from None


def _sentences(error: ValidationError) -> str:
    sentences = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            sentences.append(message + ".")
            continue
        name = str(item["loc"][0])
        sentences.append(f"{NAMES.get(name, name)}: {message[0].lower()}{message[1:]}.")
    return " ".join(sentences)
