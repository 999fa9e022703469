"""What the provider said besides its answer, as each of the two OpenAI-like addresses passes it on.

Below /openai, where Groq's clients are: Groq's own fields as they came. Below /v1: what OpenAI's
types have, with values that they allow; `x_groq` is ours there, and their clients ignore it.
"""

from __future__ import annotations

from typing import Any, Final

from service.events import Event, provider

# Groq's tiers and OpenAI's own, by the names that OpenAI's types allow. Others are left out.
_TIERS: Final = {"on_demand": "default", "performance": "priority"} | {
    name: name for name in ("auto", "default", "flex", "scale", "priority")
}


class PassedOn:
    """Of the terminal event of a turn. `groq`: for Groq's clients; `call`: our own id of the call."""

    def __init__(self, event: Event, call: str, *, groq: bool) -> None:
        said = provider(event.data) or {}
        self._groq = groq
        self._fingerprint = said.get("system_fingerprint")
        self._tier = said.get("service_tier") if groq else _TIERS.get(said.get("service_tier", ""))
        self._x_groq: dict[str, Any] = {"id": said.get("id", call) if groq else call}
        if groq and "seed" in said:
            self._x_groq["seed"] = said["seed"]
        self.usage: dict[str, Any] = {**event.data["usage"], **(said.get("times", {}) if groq else {})}

    def _known(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Groq's clients look for a field and find null; OpenAI's types have none where it is not known."""
        return fields if self._groq else {name: value for name, value in fields.items() if value is not None}

    def completion(self) -> dict[str, Any]:
        """Fields of an answer in one piece."""
        fields = {"system_fingerprint": self._fingerprint, "service_tier": self._tier}
        return {"usage": self.usage, **self._known(fields), "x_groq": self._x_groq}

    def last_chunk(self) -> dict[str, Any]:
        """Fields of the chunk that has the finish_reason."""
        fields = {"system_fingerprint": self._fingerprint} if self._fingerprint else {}
        if self._groq:
            fields["usage"] = self.usage  # Groq's clients are not to ask for it
        return {**fields, "x_groq": {**self._x_groq, "usage": self.usage}}

    def usage_chunk(self) -> dict[str, Any]:
        """Fields of the one more chunk that `stream_options.include_usage` asks for."""
        return {"usage": self.usage, **self._known({"service_tier": self._tier})}
