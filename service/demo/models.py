"""The models that the demo offers, as Groq's /models describes them. Ids come and go at Groq."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Reasoning = Literal["", "analysis", "think"]


@dataclass(frozen=True, slots=True)
class Model:
    """`reasoning` is how thoughts appear: gpt-oss's analysis channel, or think tags when raw."""

    id: str
    owned_by: str = "Demo"
    context_window: int = 131_072
    max_completion_tokens: int = 65_536
    reasoning: Reasoning = ""
    tools: bool = True
    vision: bool = False
    classifier: bool = False
    prices: tuple[str, str, str] = ("0", "0", "0")

    def describe(self) -> dict[str, object]:
        features = ["tools"] * self.tools + ["json_mode", "structured_outputs"] * (not self.classifier)
        prompt, completion, cached = self.prices
        return {
            "id": self.id,
            "object": "model",
            "created": 1_754_407_957,
            "owned_by": self.owned_by,
            "active": True,
            "context_window": self.context_window,
            "public_apps": None,
            "max_completion_tokens": self.max_completion_tokens,
            "name": self.id.rpartition("/")[2],
            "input_modalities": ["text"] + ["image"] * self.vision,
            "output_modalities": ["text"],
            "supported_features": features + ["reasoning"] * bool(self.reasoning),
            "pricing": {"prompt": prompt, "completion": completion, "input_cache_read": cached},
        }


def _gpt_oss(name: str, prices: tuple[str, str, str]) -> Model:
    return Model(
        id=f"openai/{name}",
        owned_by="OpenAI",
        reasoning="analysis",
        prices=prices,
    )


def _guard(size: str, price: str) -> Model:
    return Model(
        id=f"meta-llama/llama-prompt-guard-2-{size}",
        owned_by="Meta",
        context_window=512,
        max_completion_tokens=512,
        tools=False,
        classifier=True,
        prices=(price, price, "0"),
    )


CATALOGUE: Final[tuple[Model, ...]] = (
    _gpt_oss("gpt-oss-120b", ("0.00000015", "0.0000006", "0.000000075")),
    _gpt_oss("gpt-oss-20b", ("0.000000075", "0.0000003", "0.0000000375")),
    _gpt_oss("gpt-oss-safeguard-20b", ("0.000000075", "0.0000003", "0")),
    Model(
        id="qwen/qwen3.8-27b",
        owned_by="Alibaba Cloud",
        max_completion_tokens=16_384,
        reasoning="think",
        vision=True,
        prices=("0.0000008", "0.000004", "0.0000004"),
    ),
    _guard("22m", "0.00000003"),
    _guard("86m", "0.00000004"),
)
