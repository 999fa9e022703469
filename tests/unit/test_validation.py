"""A body that is not valid is refused by the name of a field that it has."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.base import kept_prompt, validate
from service.dialects.native import Params, SessionBody
from service.dialects.openai_request import CompletionBody
from service.errors import ServiceError

CALL = {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("model", "body", "param", "sentence"),
    [
        (Params, {"stop": ["a"] * 5}, "stop", "list should have at most 4 items after validation, not 5."),
        (Params, {"stop": ["a", 5]}, "stop.1", "input should be a valid string."),
        (Params, {"stop": 5}, "stop", "input should be a valid string."),
        (Params, {"stop": 5, "reasoning_effort": "x"}, "stop", "input should be a valid string."),
        (CompletionBody, {**CALL, "tool_choice": 5}, "tool_choice", "input should be a valid string."),
        (CompletionBody, {**CALL, "top_p": 9}, "top_p", "input should be less than or equal to 1."),
        (CompletionBody, {"messages": [{"content": "x"}]}, "messages.0.role", "field required."),
        (CompletionBody, {}, "messages", "field required."),
    ],
)
def test_the_field_is_named_and_what_is_wrong_with_it(
    model: Any, body: dict[str, Any], param: str, sentence: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        validate(model, body)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: {sentence}")


def test_a_bound_in_bytes_counts_bytes() -> None:
    for most, field, body in ((512, "user", CALL), (1_024, "stop", CALL)):
        validate(CompletionBody, {**body, field: "é" * (most // 2)})
        with pytest.raises(ServiceError) as caught:
            validate(CompletionBody, {**body, field: "é" * (most // 2) + "x"})
        assert (caught.value.param, caught.value.message) == (field, f"{field}: has more than {most} bytes.")


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ("x" * 65_536, True),
        ("x" * 65_537, False),
        ("é" * 65_536, True),
        ("€" * 43_690, True),
        ("€" * 43_691, False),
    ],
)
def test_a_session_keeps_a_prompt_of_so_many_characters_and_bytes(prompt: str, kept: bool) -> None:
    assert kept_prompt(prompt) == (prompt if kept else None)
    try:
        validate(SessionBody, {"system_prompt": prompt})
    except ServiceError as error:
        assert (error.param, kept) == ("system_prompt", False)  # noqa: PT017 - either may be
    else:
        assert kept
