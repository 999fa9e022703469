"""Where the provider's API is: GROQ_BASE_URL, and what stands below it.

Groq's SDKs are given a base and add /openai/v1 to it; servers that speak OpenAI's API are given by
the URL of the API itself, which mostly ends in /v1, or by their host. Which kind a URL is shows in its
path, else by asking: the first of the possible places that answers as the API does counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import httpx

from service.config.provider_keys import DEFAULT, ProviderKey
from service.config.redis_url import without_credentials
from service.config.settings import Settings
from service.upstream.refusals import is_redirect, is_unknown_url

GROQ: Final = "https://api.groq.com"
# The URL of an API, and not of the host or the folder that it is in.
_VERSION: Final = re.compile(r"/v\d+[a-z0-9]*$")
_ASK_SECONDS: Final = 10.0


def roots(base: str | None) -> list[str]:
    """The URLs below which `/chat/completions` and `/models` may be, the likeliest first."""
    if base is None:
        return [f"{GROQ}/openai/v1"]
    base = base.rstrip("/")
    return [base] if _VERSION.search(base) else [f"{base}/openai/v1", f"{base}/v1", base]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `check` says of the provider. `wrong`: somebody has to mend it, it does not pass by itself."""

    sentence: str
    wrong: bool = False


async def ask_models(settings: Settings, key: ProviderKey, wanted: Collection[str], default: str) -> Verdict:
    """Ask the provider for its models: is it there, does it take our key, and does it have what we call?"""
    tried: list[str] = []
    headers = {"Authorization": f"Bearer {key.secret}"} if key.secret else {}
    async with httpx.AsyncClient(timeout=_ASK_SECONDS, headers=headers, follow_redirects=False) as client:
        for root in roots(settings.groq_base_url):
            url = without_credentials(f"{root}/models")
            try:
                answer = await client.get(f"{root}/models")
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
                return Verdict(f"The provider cannot be reached at {url} ({why}): is GROQ_BASE_URL right?")
            offered = _ids(answer) if answer.is_success else None
            if offered is not None:
                return _compared(without_credentials(root), offered, wanted, default)
            status = answer.status_code
            if not (answer.is_success or is_redirect(status) or is_unknown_url(status, _json(answer))):
                return _refused(url, status, key.name)
            # Not followed: the key would go to whoever is named there.
            to = answer.next_request
            tried.append(f"{url} answered {status}{f', to {without_credentials(str(to.url))}' if to else ''}")
    last = " without a list of models" if tried[-1].endswith(" 200") else ""
    return Verdict(
        f"There is no API where GROQ_BASE_URL says: {', '.join(tried)}{last}."
        " Set it to the URL below which /models is, or to Groq's without /openai/v1.",
        wrong=True,
    )


def _refused(url: str, status: int, key: str) -> Verdict:
    if status in (401, 403):
        which = "GROQ_API_KEY" if key == DEFAULT else f"the key {key}"
        return Verdict(f"The provider refuses us: {url} answered {status}. Is {which} right?", wrong=True)
    return Verdict(
        f"The provider has a problem: {url} answered {status}.", wrong=status < 500 and status != 429
    )


def _compared(root: str, offered: Collection[str], wanted: Collection[str], default: str) -> Verdict:
    sentence = f"The provider at {root} offers {len(offered)} models"
    missing = [name for name in wanted if name not in offered]
    if not missing:
        return Verdict(f"{sentence}, ours among them.")
    sentence += f"; not among them: {', '.join(missing)}."
    if default not in missing:
        return Verdict(sentence)
    some = ", ".join(sorted(offered)[:5]) or "none"
    sentence += f" {default} is the default: set CHAT_MODELS_FILE or CHAT_MODEL (it offers {some})."
    return Verdict(sentence, wrong=True)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _ids(answer: httpx.Response) -> list[str] | None:
    models = _json(answer).get("data")
    if not isinstance(models, list):
        return None
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]
