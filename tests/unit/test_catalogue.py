"""The models' file: what it may leave out, what is wrong with it, and what each model is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.config.settings import SettingsError
from service.dialects import pictures
from service.errors import ServiceError
from service.money import Price
from service.upstream.models import Catalogue, load_catalogue

PLAIN = 'id = "a"\ncontext_window = 9_000\nmax_completion_tokens = 100\n'


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def load(*models: str, head: str = "", **more: Any) -> Catalogue:
        file = tmp_path / "models.toml"
        file.write_text(head + "".join(f"[[models]]\n{model}" for model in models))
        return load_catalogue(file, more.pop("default", None), **more)

    return load


def test_what_a_model_leaves_out_is_as_the_settings_and_the_provider_have_it(written: Any) -> None:
    model = written(PLAIN, on_takeover="continue").default
    assert (model.default_completion, model.on_takeover, model.owned_by) == (100, "continue", "Groq")
    assert (model.price, model.images, model.whole_formats) == (None, None, frozenset())
    large = PLAIN.replace("100", "60_000")
    assert written(large).default.default_completion == 8_192
    own = written(PLAIN + 'on_takeover = "restart"\ndefault_completion = 7\n', on_takeover="continue").default
    assert (own.on_takeover, own.default_completion, own.prefills) == ("restart", 7, False)


def test_a_price_is_the_file_s_and_nothing_for_a_model_that_nobody_is_paid_for(written: Any) -> None:
    priced = PLAIN + "price = { input = 1, output = 2 }\n"
    assert written(priced, head='currency = "EUR"\n').default.price == Price("EUR", 10**6, 10**6, 2 * 10**6)
    cached = PLAIN + "price = { input = 1, cached_input = 0.5, output = 2 }\n"
    assert written(cached).default.price == Price("USD", 10**6, 5 * 10**5, 2 * 10**6)
    assert written(priced, free=True).default.price == Price("USD", 0, 0, 0)


@pytest.mark.parametrize(
    ("more", "settings", "sentence"),
    [
        ('whole_formats = ["xml"]\n', {}, "CHAT_MODELS_FILE: whole_formats of a may list"),
        ("images = { count = 0, bytes = 9 }\n", {}, "CHAT_MODELS_FILE: images of a need a count"),
        ("images = { count = 1, bytes = 9, tile = -1 }\n", {}, "CHAT_MODELS_FILE: images of a need a count"),
        ('images = { count = 1, bytes = 9, formats = ["bmp"] }\n', {}, "CHAT_MODELS_FILE: images of a need"),
        ("price = { input = 1 }\n", {}, "CHAT_MODELS_FILE: the price of a lacks output."),
        ("price = { input = -1, output = 1 }\n", {}, "CHAT_MODELS_FILE: the price of a is wrong"),
        ("", {"default": "b"}, "CHAT_MODEL: 'b' is none of a."),
        ("", {"titles": "b"}, "CHAT_TITLE_MODEL: 'b' is none of a."),
        ("", {"head": 'currency = "Euro"\n'}, "CHAT_MODELS_FILE: currency 'Euro' is no code"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_served(
    written: Any, more: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        written(PLAIN + more, **settings)
    assert str(caught.value).startswith(sentence)


def test_a_model_is_found_by_its_id_an_alias_or_no_name_and_falls_back_in_order(written: Any) -> None:
    other = PLAIN.replace('"a"', '"b"') + 'fallbacks = ["c", "a"]\naliases = ["old", "a"]\n'
    catalogue = written(PLAIN, other, PLAIN.replace('"a"', '"c"'), default="old", titles="c")
    assert [catalogue.resolve(name).id for name in (None, "old", "a", "b")] == ["b", "b", "a", "b"]
    assert [model.id for model in catalogue.chain(catalogue.default)] == ["b", "c", "a"]
    assert [model.id for model in catalogue] == ["a", "b", "c"]
    assert (catalogue.default.id, catalogue.titles.id) == ("b", "c")
    with pytest.raises(ServiceError, match="the models are a, b, c") as caught:
        catalogue.resolve("d")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("params", "needs", "field"),
    [
        ({"tools": [{}]}, 'capabilities = ["tools"]\n', "tools"),
        ({"response_format": {"type": "json_object"}}, 'capabilities = ["json"]\n', "response_format"),
        ({"reasoning_effort": "low"}, 'reasoning_efforts = ["low"]\n', "reasoning_effort"),
    ],
)
def test_what_a_model_cannot_do_is_refused_and_never_asked_of_it(
    written: Any, params: dict[str, Any], needs: str, field: str
) -> None:
    written(PLAIN + needs).default.check(params)
    written(PLAIN).default.check({"tools": [], "response_format": {"type": "text"}, "reasoning_effort": None})
    with pytest.raises(ServiceError) as caught:
        written(PLAIN).default.check(params)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", field)
    other = PLAIN + 'reasoning_efforts = ["high"]\ncapabilities = ["vision"]\n'
    with pytest.raises(ServiceError):
        written(other).default.check(params)


DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("https://x.example/a.png?b", {"url": "https://x.example/a.png?b"}),
        ("HTTPS://x.example/a", {"url": "HTTPS://x.example/a"}),
        ("https://x.example/" + "a" * 2_030, {"url": "https://x.example/" + "a" * 2_030}),
        (f"image:{DIGEST}", {"ref": DIGEST}),
        (f"/below/v1/sessions/s/images/{DIGEST}", {"ref": DIGEST}),
        ("https://x.example/" + "a" * 2_031, None),
        ("https://x.example/a b", None),
        ("https://x.example/a\n", None),
        ("https:///a", None),
        ("http://x.example/a", None),
        ("file:///etc/passwd", None),
        ("image:0123", None),
        ("data:image/png;base64,", None),
        (5, None),
    ],
)
def test_an_image_is_named_by_its_digest_or_by_an_https_address(
    url: Any, part: dict[str, str] | None
) -> None:
    if part is not None:
        assert pictures.image(url, "x") == {"type": "image", **part}
        return
    with pytest.raises(ServiceError) as caught:
        pictures.image(url, "x")
    assert (caught.value.code, caught.value.param) == ("invalid_request", "x")
