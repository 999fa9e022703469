"""What can be set on a double, at the start or while it serves. Wrong values raise ValueError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from service.demo.models import CATALOGUE, Model
from tests.double.limits import KINDS

# Ids that answer 400 model_decommissioned; ids that died in 2026 are plainly not found.
DECOMMISSIONED: Final[frozenset[str]] = frozenset(
    {
        "llama3-70b-8192",
        "llama3-8b-8192",
        "mixtral-8x7b-32768",
        "gemma-7b-it",
        "gemma2-9b-it",
        "llama-3.1-70b-versatile",
        "mistral-saba-24b",
    }
)


def _catalogue() -> dict[str, Model]:
    return {model.id: model for model in CATALOGUE}


@dataclass(frozen=True, slots=True)
class Settings:
    """`rate` is in tokens a second, 0 as fast as possible; `continues` lists the models (or "*")
    that continue an assistant prefill; `api_keys` empty means that any key will do. `unstreamed` are the
    formats of an answer that are refused with `stream`, `streamed_only` those that are without.
    `organizations` are those of API keys, each with limits of its own; a key that it does not name is of ''.
    `root` is where the API stands; other servers have theirs at /v1, or elsewhere."""

    rate: float = 50.0
    first_delay: float = 0.0
    require_key: bool = False
    api_keys: frozenset[str] = frozenset()
    organizations: Mapping[str, str] = field(default_factory=dict)
    continues: frozenset[str] = frozenset()
    unstreamed: frozenset[str] = frozenset({"json_schema"})
    streamed_only: frozenset[str] = frozenset()
    root: str = "/openai/v1"
    models: Mapping[str, Model] = field(default_factory=_catalogue)
    decommissioned: frozenset[str] = DECOMMISSIONED
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def changed(self, wishes: Mapping[str, object]) -> Settings:
        """These settings with some replaced, given as JSON has them."""
        known = {item.name for item in fields(self)}
        if unknown := wishes.keys() - known:
            raise ValueError(f"there is no setting {sorted(unknown)}; there are {sorted(known)}")
        new: dict[str, Any] = {}
        for name, value in wishes.items():
            match name:
                case "rate" | "first_delay":
                    new[name] = _seconds(name, value)
                case "root":
                    new[name] = str(value)
                case "require_key":
                    new[name] = _boolean(name, value)
                case "models":
                    new[name] = _models(self.models, value)
                case "organizations":
                    new[name] = _organizations(value)
                case "limits":
                    new[name] = _limits(value)
                case _:
                    new[name] = frozenset(_strings(name, value))
        return replace(self, **new)

    def describe(self) -> dict[str, object]:
        return {
            "rate": self.rate,
            "first_delay": self.first_delay,
            "require_key": self.require_key,
            "api_keys": len(self.api_keys),
            "organizations": sorted(set(self.organizations.values())),
            "continues": sorted(self.continues),
            "unstreamed": sorted(self.unstreamed),
            "streamed_only": sorted(self.streamed_only),
            "root": self.root,
            "models": list(self.models),
            "decommissioned": sorted(self.decommissioned),
            "limits": self.limits,
        }

    def continues_prefill(self, model: str) -> bool:
        return model in self.continues or "*" in self.continues


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} has to be a number >= 0")
    return float(value)


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} has to be true or false")
    return value


def _organizations(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError('organizations has to be an object such as {"gsk_a": "org_a"}')
    return {str(key): str(name) for key, name in value.items()}


def _strings(name: str, value: object) -> Iterable[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} has to be a list of strings")
    return [str(item) for item in value]


def _models(current: Mapping[str, Model], value: object) -> dict[str, Model]:
    """Ids, or objects with an id and bounds; what is not said is as the known model, or gpt-oss, has it."""
    if isinstance(value, Mapping | str) or not isinstance(value, Iterable):
        raise ValueError("models has to be a list of ids or objects with an id")
    models: dict[str, Model] = {}
    for item in value:
        if isinstance(item, Model):
            models[item.id] = item
            continue
        wishes = item if isinstance(item, Mapping) else {"id": item}
        name = str(wishes.get("id", ""))
        like = current.get(name, CATALOGUE[0])
        models[name] = replace(
            like,
            id=name,
            context_window=int(wishes.get("context_window", like.context_window)),
            max_completion_tokens=int(wishes.get("max_completion_tokens", like.max_completion_tokens)),
        )
    return models


def _limits(value: object) -> dict[str, dict[str, int]]:
    if not isinstance(value, Mapping):
        raise ValueError('limits has to be an object such as {"*": {"TPM": 8000}}')
    table: dict[str, dict[str, int]] = {}
    for model, bounds in value.items():
        if not isinstance(bounds, Mapping) or not bounds.keys() <= KINDS.keys():
            raise ValueError(f"the limits of a model are an object with {sorted(KINDS)}")
        table[str(model)] = {kind: int(bounds[kind]) for kind in KINDS if kind in bounds}
    return table
