"""What images count for: by the rule of their model, and only those that the model will be shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.config.settings import SettingsError
from service.engine.context import Context, Contexts
from service.engine.tokens import Counter, Tokens
from service.store.messages import HistoryPage, Said
from service.store.turn_records import Turn, TurnRef
from service.upstream.models import load_catalogue

SEES = load_catalogue(None, None).resolve("qwen/qwen3.8-27b")
BLIND = replace(SEES, images=None)


def picture(width: int, height: int) -> dict[str, Any]:
    return {"type": "image", "ref": "0" * 64, "width": width, "height": height}


def shown(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def told(pixels: list[int] | None) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": "image:"}}
    return part if pixels is None else {**part, "pixels": pixels}


@pytest.mark.parametrize(
    ("pixels", "tokens"),
    [([1, 1], 1), ([32, 64], 2), ([33, 64], 4), ([1024, 1024], 1024), ([7680, 4320], 16_384), (None, 1024)],
)
def test_an_image_counts_by_its_pixels(pixels: list[int] | None, tokens: int) -> None:
    counter = Counter(None, 1.0, SEES.images)
    assert counter.chat([shown(told(pixels))]) - 4 == tokens


def test_a_model_without_a_rule_counts_all_alike_and_a_blind_one_the_words_instead(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    text = '[[models]]\nid = "m"\ncontext_window = 9000\nmax_completion_tokens = 100\n'
    file.write_text(f"{text}images = {{ count = 1, bytes = 9, tokens = 77 }}\n")
    model = load_catalogue(file, None).resolve("m")
    assert Counter(None, 1.0, model.images).chat([shown(told([4000, 4000]))]) == 77 + 4
    assert Counter(None, 1.0).chat([shown(told([4000, 4000]))]) < 20
    file.write_text(f"{text}images = {{ count = 1, bytes = 9, tile = -1 }}\n")
    with pytest.raises(SettingsError, match="tile"):
        load_catalogue(file, None)


class Pictured:
    """In the place of stored sessions: a history of questions with an image each, and short answers."""

    def __init__(self, questions: int, pixels: int) -> None:
        self.said = []
        for i in range(questions):
            parts = ({"type": "text", "text": f"q{i}"}, picture(pixels, pixels))
            self.said.append(Said(2 * i + 2, "user", f"q{i}", "t", parts=parts))
            self.said.append(Said(2 * i + 3, "assistant", f"a{i}", "t"))

    async def window(self, principal: str, session_id: str, place: int, count: int, size: int) -> HistoryPage:
        return HistoryPage([one for one in reversed(self.said) if one.place < place], False)


async def built(questions: int, pixels: int, model: Any) -> Context:
    contexts = Contexts(Pictured(questions, pixels), Tokens())  # type: ignore[arg-type]  # all that it calls
    place = 2 * questions + 3
    turn = Turn(TurnRef("p", "s", "t"), "running", 1, 1, "m", "u", pos=place, last=0, created=0, question="?")
    return await contexts.build(turn, model)


async def test_of_a_history_only_the_images_that_are_shown_count() -> None:
    few, many = await built(3, 1024, SEES), await built(20, 1024, SEES)
    assert 3 * 1024 < few.prompt_tokens < many.prompt_tokens < 3 * 1024 + 1_024
    assert (await built(20, 1024, BLIND)).prompt_tokens < 1_024
    assert len(many.messages) == 1 + 40 + 1  # all of the history is sent
    # What a provider reports of images says nothing of how many characters a token has.
    assert many.text_tokens == 0


async def test_large_images_leave_less_room_for_the_history() -> None:
    small = replace(SEES, context_window=4_096 + 8_192)
    assert len((await built(6, 64, small)).messages) == 1 + 12 + 1
    assert len((await built(6, 1536, small)).messages) < 1 + 12 + 1
