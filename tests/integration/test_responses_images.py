"""Images in responses: shown again as items, kept in chains and their copies."""

from __future__ import annotations

import openai
import pytest

from tests.double import Double
from tests.integration.test_images import BLIND, PICTURE, REF, SEES, URL, asked
from tests.integration.test_responses import PATH, ask, client
from tests.support.pictures import data_url
from tests.support.service import Served


def question(words: str, *urls: str) -> list[object]:
    images = [{"type": "input_image", "image_url": url, "detail": "low"} for url in urls]
    return [{"role": "user", "content": [{"type": "input_text", "text": words}, *images]}]


async def test_an_image_is_an_item_and_in_the_next_context(served: Served, double: Double) -> None:
    first = await ask(served, question("[[say=red]] what is it", data_url(PICTURE), URL), model=SEES)
    session = first["id"].split("_", 2)[2]
    address = f"/v1/sessions/{session}/images/{REF}"
    async with client(served) as api:
        [item] = (await api.responses.input_items.list(first["id"])).data
    assert [part.type for part in item.content] == ["input_text", "input_image", "input_image"]
    assert [part.image_url for part in item.content[1:]] == [address, URL]
    assert (await served.client.get(address)).content == PICTURE
    items = (await served.client.get(f"/v1/conversations/{session}/items?order=asc")).json()["data"]
    shown = {"type": "input_image", "detail": "auto", "file_id": None, "image_url": address}
    assert items[0]["content"][1] == shown
    # What the list gave is taken again; the model is sent the picture itself, both times.
    again = question("[[say=yes]] and this", address)
    await ask(served, again, model=SEES, previous_response_id=first["id"])
    before, now = asked(double, "and this")
    assert [part["image_url"]["url"] for part in before[1:]] == [data_url(PICTURE), URL]
    assert now[1]["image_url"]["url"] == data_url(PICTURE)


async def test_a_copy_of_an_older_response_has_its_images(served: Served, double: Double) -> None:
    first = await ask(served, question("[[say=red]] what is it", data_url(PICTURE)), model=SEES)
    await ask(served, "[[say=two]]", previous_response_id=first["id"])
    branch = await ask(served, "[[say=three]] branch", previous_response_id=first["id"], model=SEES)
    session = branch["id"].split("_", 2)[2]
    assert not first["id"].endswith(session)
    assert asked(double, "branch")[0][1]["image_url"]["url"] == data_url(PICTURE)
    assert (await served.client.get(f"/v1/sessions/{session}/images/{REF}")).content == PICTURE


async def test_a_model_without_eyes_is_named_in_openais_envelope(served: Served) -> None:
    async with client(served) as api:
        with pytest.raises(openai.BadRequestError) as refused:
            await api.responses.create(model=BLIND, input=question("what is it", URL))
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "input")
    broken = await served.client.post(
        PATH, json={"model": SEES, "input": question("?", "data:image/png;base64,AA")}
    )
    assert broken.status_code == 400
    assert broken.json()["error"]["param"] == "input[0].content[1].image_url"
