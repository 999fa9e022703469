"""The catalogue: which models there are and what each can do. Data, read from a TOML file.

`resolve` turns what a caller sent (id or alias of a dead model) into a living model.
Nothing here talks to Groq.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from service import money
from service.config.settings import SettingsError
from service.errors import ServiceError
from service.money import Price

#: formats that bind an answer
FORMATS: Final = ("json_object", "json_schema")
#: kinds of images that requests may bring (service/images.py)
IMAGE_FORMATS: Final = ("png", "jpeg", "webp", "gif")
# An image of one megapixel, at 32 by 32 pixels a token.
_IMAGE_TOKENS: Final = 1_024
# An image of 16 megapixels; providers scale larger ones down to that.
_MOST_IMAGE_TOKENS: Final = 16_384
# ISO 4217
_CURRENCY: Final = re.compile("[A-Z]{3}")
_SHIPPED: Final = Path(__file__).with_name("models.toml")


@dataclass(frozen=True, slots=True)
class ImageRules:
    """Which images a model takes: how many in a prompt, their bytes together, and their kinds.

    The tokens of an image are estimated until the provider has reported usage: one per square of `tile` by
    `tile` pixels, `most_tokens` at most; or `tokens`, where its size is not known (a URL that is passed on)
    or the model has no such rule (`tile` is 0).
    """

    count: int
    bytes: int
    formats: tuple[str, ...]
    tokens: int
    tile: int
    most_tokens: int

    def tokens_of(self, pixels: Sequence[int] | None) -> int:
        if not self.tile or not pixels:
            return self.tokens
        width, height = pixels
        return min(math.ceil(width / self.tile) * math.ceil(height / self.tile), self.most_tokens)


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    context_window: int
    max_completion_tokens: int
    default_completion: int
    capabilities: frozenset[str]
    reasoning_efforts: tuple[str, ...]
    fallbacks: tuple[str, ...]
    aliases: tuple[str, ...]
    on_takeover: Literal["restart", "continue"]
    owned_by: str
    whole_formats: frozenset[str] = frozenset()
    images: ImageRules | None = None
    price: Price | None = None

    def supports(self, capability: str) -> bool:
        return capability in self.capabilities

    @property
    def prefills(self) -> bool:
        """Does it go on with an assistant's message that stands last?"""
        return self.on_takeover == "continue"

    def check(self, params: dict[str, Any]) -> None:
        """Raises unsupported_parameter for what this model cannot do."""
        wanted = (params.get("response_format") or {}).get("type", "text")
        effort = params.get("reasoning_effort")
        if params.get("tools") and not self.supports("tools"):
            raise self._lacks("tools", "takes no tools")
        if wanted != "text" and not self.supports("json"):
            raise self._lacks("response_format", "cannot be bound to JSON")
        if effort is not None and effort not in self.reasoning_efforts:
            efforts = ", ".join(self.reasoning_efforts)
            raise self._lacks(
                "reasoning_effort", f"takes one of {efforts}" if efforts else "takes no reasoning effort"
            )

    def _lacks(self, param: str, what: str) -> ServiceError:
        return ServiceError("unsupported_parameter", f"{param}: the model {self.id} {what}.", param=param)


class Catalogue:
    """All models by id and alias; which is the default, which finds titles (None: titles are off); the
    currency of their prices."""

    def __init__(
        self,
        models: list[Model],
        default: str | None = None,
        currency: str = "USD",
        titles: str | None = None,
    ) -> None:
        self.currency = currency
        if not models:
            raise SettingsError("CHAT_MODELS_FILE: the file names no model; add a [[models]] table.")
        self._models = {model.id: model for model in models}
        self._names = dict(self._models)
        for model in models:
            for alias in model.aliases:
                self._names.setdefault(alias, model)
            for fallback in model.fallbacks:
                if fallback not in self._models:
                    raise SettingsError(
                        f"CHAT_MODELS_FILE: {model.id} falls back to {fallback!r}, "
                        "which the file does not list."
                    )
        if default is not None and default not in self._names:
            raise SettingsError(f"CHAT_MODEL: {default!r} is none of {', '.join(self._names)}.")
        self.default = self._names[default] if default else models[0]
        if titles is not None and titles not in self._names:
            raise SettingsError(f"CHAT_TITLE_MODEL: {titles!r} is none of {', '.join(self._names)}.")
        self.titles = self._names[titles] if titles else None

    def __iter__(self) -> Any:
        return iter(self._models.values())

    def resolve(self, name: str | None) -> Model:
        """The living model for an id, an alias or nothing. Raises model_not_found."""
        if name is None:
            return self.default
        model = self._names.get(name)
        if model is None:
            raise ServiceError(
                "model_not_found",
                f"There is no model of that name; the models are {', '.join(self._models)}.",
                param="model",
            )
        return model

    def chain(self, model: Model) -> list[Model]:
        """The model and its fallbacks, in the order in which they are tried."""
        return [model, *(self._models[name] for name in model.fallbacks)]


def _image_rules(table: dict[str, Any]) -> ImageRules:
    return ImageRules(
        count=int(table["count"]),
        bytes=int(table["bytes"]),
        formats=tuple(table.get("formats", IMAGE_FORMATS)),
        tokens=int(table.get("tokens", _IMAGE_TOKENS)),
        tile=int(table.get("tile", 0)),
        most_tokens=int(table.get("most_tokens", _MOST_IMAGE_TOKENS)),
    )


def _price(table: dict[str, Any], currency: str, model: object) -> Price | None:
    """The price in a model's table; None without one: its cost is not known."""
    prices = table.get("price")
    if prices is None:
        return None
    try:
        entry, output = money.price(prices["input"]), money.price(prices["output"])
        return Price(currency, entry, money.price(prices.get("cached_input", prices["input"])), output)
    except KeyError as error:
        raise SettingsError(f"CHAT_MODELS_FILE: the price of {model} lacks {error.args[0]}.") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise SettingsError(f"CHAT_MODELS_FILE: the price of {model} is wrong: {error}.") from None


def _model(table: dict[str, Any], on_takeover: Literal["restart", "continue"], currency: str) -> Model:
    name = table.get("id")
    try:
        model = Model(
            id=str(table["id"]),
            context_window=int(table["context_window"]),
            max_completion_tokens=int(table["max_completion_tokens"]),
            default_completion=int(
                table.get("default_completion", min(8192, int(table["max_completion_tokens"])))
            ),
            capabilities=frozenset(table.get("capabilities", ())),
            reasoning_efforts=tuple(table.get("reasoning_efforts", ())),
            fallbacks=tuple(table.get("fallbacks", ())),
            aliases=tuple(table.get("aliases", ())),
            on_takeover=table.get("on_takeover", on_takeover),
            owned_by=str(table.get("owned_by", "Groq")),
            whole_formats=frozenset(table.get("whole_formats", ())),
            images=_image_rules(table["images"]) if table.get("images") else None,
            price=_price(table, currency, name),
        )
    except KeyError as error:
        raise SettingsError(f"CHAT_MODELS_FILE: model {name!r} lacks {error.args[0]}.") from None
    except (TypeError, ValueError):
        raise SettingsError(f"CHAT_MODELS_FILE: model {name!r} has a value of the wrong type.") from None
    if model.on_takeover not in ("restart", "continue"):
        raise SettingsError(f"CHAT_MODELS_FILE: on_takeover of {model.id} has to be restart or continue.")
    images = model.images
    if images and not (images.count > 0 and images.tile >= 0 and set(images.formats) <= set(IMAGE_FORMATS)):
        raise SettingsError(
            f"CHAT_MODELS_FILE: images of {model.id} need a count, a tile of 0 or more, and formats of "
            f"{', '.join(IMAGE_FORMATS)}."
        )
    if not model.whole_formats <= set(FORMATS):
        raise SettingsError(
            f"CHAT_MODELS_FILE: whole_formats of {model.id} may list {' and '.join(FORMATS)}."
        )
    return model


def load_catalogue(
    path: Path | None,
    default: str | None,
    on_takeover: Literal["restart", "continue"] = "restart",
    titles: str | None = None,
    *,
    free: bool = False,
) -> Catalogue:
    """Read the catalogue. Raises SettingsError with a sentence that says how to mend the file.

    `free`: all prices are 0, as for the demo model.
    """
    try:
        document = tomllib.loads((path or _SHIPPED).read_text(), parse_float=Decimal)
    except OSError as error:
        raise SettingsError(f"CHAT_MODELS_FILE: {path} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"CHAT_MODELS_FILE: {path} is not TOML ({error}).") from None
    tables = document.get("models", document.get("model", []))
    if isinstance(tables, dict):  # [models."id"] tables
        tables = [{"id": name, **table} for name, table in tables.items()]
    currency = document.get("currency", "USD")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise SettingsError(f"CHAT_MODELS_FILE: currency {currency!r} is no code of three letters, like USD.")
    models = [_model(table, on_takeover, currency) for table in tables]
    if free:
        models = [replace(model, price=Price(currency, 0, 0, 0)) for model in models]
    return Catalogue(models, default, currency, titles)
