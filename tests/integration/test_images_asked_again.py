"""A question with images that is answered anew, or further: by a model that sees them, or by none."""

from __future__ import annotations

from typing import Any

from tests.conftest import Start
from tests.integration.test_images import BLIND, PICTURE, SEES, asked, by_native, messages
from tests.support.pictures import data_url
from tests.support.service import Served
from tests.support.tool_clients import WEATHER

TURNS = "/v1/sessions/s/turns"


async def question(served: Served, words: str = "[[say=red]] what is it", **more: Any) -> None:
    content = [{"type": "text", "text": words}, {"type": "image", "url": data_url(PICTURE)}]
    answer = await served.client.post(TURNS, json={"content": content, "model": SEES, **more})
    assert answer.status_code == 200, answer.text


async def refused(served: Served, body: dict[str, Any]) -> None:
    """As a send with the image would be, with nothing changed."""
    before = await messages(served)
    answer = await served.client.post(TURNS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_parameter"), answer.text
    assert answer.json()["detail"] == f"The model {BLIND} takes no images."
    assert await messages(served) == before


async def test_a_model_that_sees_nothing_is_refused_a_regenerate(served: Served, double: Any) -> None:
    await question(served)
    first = (await messages(served))[0]["id"]
    for body in ({"regenerate": True}, {"regenerate": True, "message_id": first}):
        await refused(served, {**body, "model": BLIND})
        assert (await served.client.post(TURNS, json=body)).status_code == 200  # by the session's model
        assert asked(double, "what is it")[0][1]["image_url"]["url"] == data_url(PICTURE)
        await served.client.patch("/v1/sessions/s", json={"model": BLIND})
        await refused(served, body)
        await served.client.patch("/v1/sessions/s", json={"model": SEES})
    # An edit to a question without an image is for any model.
    edit = {"message_id": first, "content": "[[say=ok]] and without"}
    answer = await served.client.post(TURNS, json={"edit": edit, "model": BLIND})
    assert answer.status_code == 200, answer.text
    assert (await served.client.post(TURNS, json={"regenerate": True, "model": BLIND})).status_code == 200


async def test_of_an_older_question_it_is_that_one_s_images_that_count(served: Served) -> None:
    await question(served)
    await by_native(served, "s", "[[say=ok]] second", model=SEES)
    answer = await served.client.post(TURNS, json={"regenerate": True, "model": BLIND})
    assert answer.status_code == 200, answer.text  # of the second, which has none
    first = (await messages(served))[0]["id"]
    await refused(served, {"regenerate": True, "message_id": first, "model": BLIND})


async def test_a_model_that_sees_nothing_is_refused_the_rest_of_an_answer(served: Served) -> None:
    await question(served, "[[tokens=40]]", params={"max_completion_tokens": 10})
    await refused(served, {"continue": True, "model": BLIND})
    assert (await served.client.post(TURNS, json={"continue": True})).status_code == 200


async def test_a_model_that_sees_nothing_is_refused_results_of_tools(served: Served) -> None:
    await question(served, "[[tool=weather say=ok]]", tools=[WEATHER])
    [call] = (await messages(served))[1]["parts"]
    results = {"tool_results": [{"tool_call_id": call["id"], "content": "rain"}], "tools": [WEATHER]}
    await refused(served, {**results, "model": BLIND})
    assert (await served.client.post(TURNS, json=results)).status_code == 200


async def test_a_page_is_told_so_in_a_sentence(served: Served) -> None:
    await question(served)
    chat = (await served.client.get("/api/chat/s/messages")).json()
    body = {"id": "s", "messages": chat[:1], "trigger": "regenerate-message", "model": BLIND}
    answer = await served.client.post("/api/chat", json=body)
    assert (answer.status_code, answer.text) == (400, f"The model {BLIND} takes no images.")


async def test_by_setting_the_fallback_that_sees_answers_anew(start: Start, double: Any) -> None:
    async with start(image_fallback=True) as served:
        await question(served)
        answer = await served.client.post(TURNS, json={"regenerate": True, "model": BLIND})
        assert answer.status_code == 200, answer.text
        assert (await messages(served))[1]["model"] == SEES
        assert asked(double, "what is it")[0][1]["image_url"]["url"] == data_url(PICTURE)


async def test_of_the_fallbacks_those_that_see_come_first_where_the_history_has_images(
    served: Served, double: Any
) -> None:
    await question(served)
    told = {"content": "[[fault=503 times=1 tokens=3]] and now", "model": BLIND}
    assert (await served.client.post(TURNS, json=told)).status_code == 200
    assert (await messages(served))[-1]["model"] == SEES
    assert asked(double, "and now")[0][1]["image_url"]["url"] == data_url(PICTURE)
    # Without any it is the first.
    told["content"] += " alone"
    answer = await served.client.post("/v1/sessions/t/turns", json=told)
    assert answer.status_code == 200
    assert (await messages(served, "t"))[-1]["model"] == "openai/gpt-oss-20b"
