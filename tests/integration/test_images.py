"""Images in messages: checked, kept once with their session, sent to who sees, shown to their owner."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import orjson
import pytest
import redis

from tests.conftest import Start
from tests.support.identity import bearer, make_key
from tests.support.pictures import data_url, gif, png
from tests.support.service import Served

SEES = "qwen/qwen3.8-27b"
BLIND = "openai/gpt-oss-120b"
PICTURE = png(30, 20)
REF = hashlib.sha256(PICTURE).hexdigest()
URL = "https://example.com/a.png"


def openai_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


async def by_openai(
    served: Served, session: str, words: str, *urls: str, model: str = SEES, **headers: str
) -> httpx.Response:
    content = [text(words), *(openai_part(url) for url in urls)]
    body = {"model": model, "session_id": session, "messages": [{"role": "user", "content": content}]}
    return await served.client.post("/v1/chat/completions", json=body, headers=headers)


async def by_native(
    served: Served, session: str, words: str, *urls: str, model: str = SEES, **headers: str
) -> httpx.Response:
    content = [text(words), *({"type": "image", "url": url} for url in urls)]
    body = {"content": content, "model": model}
    return await served.client.post(f"/v1/sessions/{session}/turns", json=body, headers=headers)


async def by_use_chat(
    served: Served, session: str, words: str, *urls: str, model: str = SEES, **headers: str
) -> httpx.Response:
    files = [{"type": "file", "mediaType": "image/png", "url": url} for url in urls]
    message = {"id": "m1", "role": "user", "parts": [text(words), *files]}
    body = {"id": session, "messages": [message], "model": model}
    return await served.client.post("/api/chat", json=body, headers=headers)


async def by_responses(
    served: Served, session: str, words: str, *urls: str, model: str = SEES, **headers: str
) -> httpx.Response:
    images = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in urls]
    content = [{"type": "input_text", "text": words}, *images]
    body = {"model": model, "conversation": session, "input": [{"role": "user", "content": content}]}
    return await served.client.post("/v1/responses", json=body, headers=headers)


WAYS = pytest.mark.parametrize(
    "way",
    [by_openai, by_native, by_use_chat, by_responses],
    ids=["openai", "native", "aisdk", "responses"],
)


def asked(double: Any, words: str) -> list[Any]:
    """What the model was sent of the user's messages in the last call with these words."""
    messages = orjson.loads(double.calls.find(contains=words)[-1].body)["messages"]
    return [one["content"] for one in messages if one["role"] == "user"]


async def messages(served: Served, session: str = "s", **headers: str) -> list[dict[str, Any]]:
    answer = await served.client.get(f"/v1/sessions/{session}/messages", headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


@WAYS
async def test_an_image_is_kept_once_seen_by_the_model_and_in_the_history(
    served: Served, store: redis.Redis, double: Any, way: Any
) -> None:
    answer = await way(served, "s", "[[say=red]] what is it", data_url(PICTURE, "image/jpeg"), URL)
    assert answer.status_code == 200, answer.text
    [sent] = asked(double, "what is it")
    assert [part["type"] for part in sent] == ["text", "image_url", "image_url"]
    assert sent[1]["image_url"]["url"] == data_url(PICTURE)
    assert sent[2]["image_url"]["url"] == URL
    [question, told] = await messages(served)
    assert (question["content"], told["content"]) == ("[[say=red]] what is it", "red")
    assert [part["type"] for part in question["parts"]] == ["text", "image", "image"]
    kept = {"type": "image", "ref": REF, "media_type": "image/png", "width": 30, "height": 20}
    assert question["parts"][1] == kept
    assert question["parts"][2]["url"] == URL
    shown = await served.client.get(f"/v1/sessions/s/images/{REF}")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert shown.content == PICTURE
    assert b"sandbox" in shown.headers["content-security-policy"].encode()
    base = "chat:{none.anonymous/s}"
    assert "base64" not in str(store.hget(f"{base}:messages", question["id"]))
    # The next turn is asked with it, and what is sent again is kept once.
    again = await by_native(served, "s", "[[say=two]] again", data_url(PICTURE))
    assert again.status_code == 200, again.text
    first, second = asked(double, "again")
    assert [part["type"] for part in first] == ["text", "image_url", "image_url"]
    assert second[1]["image_url"]["url"] == data_url(PICTURE)
    fields: Any = store.hkeys(f"{base}:messages")
    assert len([name for name in fields if name.startswith("\x02")]) == 1
    history = (await served.client.get("/api/chat/s/messages")).json()
    assert history[0]["parts"][1] == {
        "type": "file",
        "mediaType": "image/png",
        "url": f"/v1/sessions/s/images/{REF}",
    }


@WAYS
async def test_a_model_that_takes_no_images_says_so(served: Served, store: redis.Redis, way: Any) -> None:
    answer = await way(served, "s", "what is it", data_url(PICTURE), model=BLIND)
    assert answer.status_code == 400, answer.text
    assert "takes no images" in answer.text
    assert list(store.scan_iter("chat:{none.anonymous/*")) == []


async def test_by_setting_the_first_fallback_that_sees_answers(start: Start, double: Any) -> None:
    async with start(image_fallback=True) as served:
        answer = await by_native(served, "s", "[[say=red]] what is it", data_url(PICTURE), model=BLIND)
        assert answer.status_code == 200, answer.text
        assert (await messages(served))[1]["model"] == SEES
        # A model that sees nothing is told that there was something.
        told = await served.client.post(
            "/v1/sessions/s/turns", json={"content": "[[say=ok]] and now", "model": BLIND}
        )
        assert told.status_code == 200, told.text
        first, second = asked(double, "and now")
        assert first == "[[say=red]] what is it\n[an image that is not shown here]"
        assert second == "[[say=ok]] and now"


async def test_a_model_that_sees_nothing_is_no_fallback_for_an_image(start: Start, double: Any) -> None:
    async with start(retry_budget_seconds=0.3) as served:
        await by_native(served, "s", "[[fault=503 times=9]] what is it", data_url(PICTURE))
        assert {call.model for call in double.calls} == {SEES}
        await by_native(served, "t", "[[fault=503 times=9]] no image")
        assert {call.model for call in double.calls} == {SEES, BLIND}


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("data:image/png;base64,AAAA", 400, "invalid_request"),
        (data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), 400, "invalid_request"),
        ("http://example.com/a.png", 400, "invalid_request"),
        ("file:///etc/passwd", 400, "invalid_request"),
        ("https://example.com/" + "a" * 3_000, 400, "invalid_request"),
        ("image:" + "0" * 64, 400, "invalid_request"),
        ("image:../../x", 400, "invalid_request"),
        (data_url(png(extra=6_000)), 413, "image_too_large"),
        (data_url(gif(60_000, 60_000), "image/gif"), 413, "image_too_large"),
    ],
)
async def test_what_is_no_image_is_refused_and_nothing_is_kept(
    start: Start, store: redis.Redis, url: str, status: int, code: str
) -> None:
    async with start(max_image_bytes=5_000) as served:
        answer = await by_native(served, "s", "what is it", url)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        for way in (by_openai, by_responses):
            answer = await way(served, "s", "what is it", url)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
        assert (await by_use_chat(served, "s", "what is it", url)).status_code == status
        left = [key for key in store.scan_iter("chat:{none.anonymous/*") if store.type(key) == "hash"]
        assert [key for key in left if key.endswith(":messages")] == []


async def test_more_images_than_the_model_takes_are_refused_and_of_a_history_the_newest_are_sent(
    served: Served, double: Any
) -> None:
    pictures = [png(1 + i, 1) for i in range(5)]
    answer = await by_native(served, "s", "too many", *(data_url(one) for one in pictures))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    for i, one in enumerate(pictures):
        assert (await by_native(served, "s", f"[[say=n]] number{i}", data_url(one))).status_code == 200
    sent = asked(double, "number4")
    assert [isinstance(one, list) for one in sent] == [False, False, True, True, True]
    assert sent[0] == "[[say=n]] number0\n[an image that is not shown here]"
    assert sent[-1][1]["image_url"]["url"] == data_url(pictures[-1])


async def test_a_body_may_be_large_for_its_images_only(start: Start) -> None:
    async with start(max_body_bytes=2_000, max_image_body_bytes=40_000, max_image_bytes=20_000) as served:
        picture = data_url(png(extra=10_000))
        assert (await by_native(served, "s", "[[say=ok]]", picture)).status_code == 200
        for words, url in (("x" * 5_000, picture), ("x" * 5_000, URL)):
            answer = await by_native(served, "s", words, url)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        answer = await by_native(served, "s", "x", data_url(png(extra=40_000)))
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        plain = await served.client.post("/chat", json={"user_query": "x" * 5_000})
        assert plain.status_code == 413


async def test_images_are_their_owners_count_as_theirs_and_go_with_the_session(
    start: Start, store: redis.Redis
) -> None:
    async with start(auth="keys", max_stored_bytes_per_principal=100_000) as served:
        mine = bearer(await make_key(served, owner="me"))
        other = bearer(await make_key(served, owner="you"))

        async def used() -> int:
            usage = (await served.client.get("/v1/usage", headers=mine)).json()
            return int(usage["storage"]["bytes"]["used"])

        large = png(extra=60_000)
        ref = hashlib.sha256(large).hexdigest()
        assert (await by_native(served, "s", "[[say=ok]]", data_url(large), **mine)).status_code == 200
        assert 60_000 < await used() < 70_000
        for session in ("s", "t"):
            answer = await served.client.get(f"/v1/sessions/{session}/images/{ref}", headers=other)
            assert answer.status_code == 404
        answer = await by_native(served, "s", "[[say=ok]]", f"image:{ref}", **other)
        assert answer.status_code == 400  # nor may it be named by who has not got it
        full = await by_native(served, "t", "[[say=ok]]", data_url(png(extra=61_000)), **mine)
        assert (full.status_code, full.json()["code"]) == (429, "storage_full")
        again = await by_native(served, "s", "[[say=ok]]", data_url(large), **mine)
        assert again.status_code == 200, again.text
        assert await used() < 75_000
        names = [f"chat:{{owner.me/s}}:{name}" for name in ("session", "order", "messages", "turns")]
        assert len({round(int(str(store.ttl(name))) / 10) for name in names}) == 1
        assert (await served.client.delete("/v1/sessions/s", headers=mine)).status_code == 204
        assert list(store.scan_iter("chat:{owner.me/s}*")) == []
        assert await used() < 2_000


async def test_an_image_in_a_session_without_a_name_is_seen_too(served: Served, double: Any) -> None:
    body = {
        "model": SEES,
        "messages": [
            {"role": "user", "content": [text("[[say=red]] alone"), openai_part(data_url(PICTURE))]}
        ],
    }
    answers = await asyncio.gather(
        *(
            served.client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"})
            for _ in range(5)
        )
    )
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {"red"}
    assert len({answer.headers["x-turn-id"] for answer in answers}) == 1
    [sent] = asked(double, "alone")
    assert sent[1]["image_url"]["url"] == data_url(PICTURE)


async def test_models_say_what_they_take(served: Served) -> None:
    models = {one["id"]: one for one in (await served.client.get("/v1/models")).json()["data"]}
    assert models[SEES]["input_modalities"] == ["text", "image"]
    assert models[BLIND]["input_modalities"] == ["text"]


async def test_a_fork_has_the_images_too(served: Served, store: redis.Redis, double: Any) -> None:
    assert (await by_native(served, "s", "[[say=red]] what is it", data_url(PICTURE))).status_code == 200
    last = (await messages(served))[-1]["id"]
    copy = (await served.client.post("/v1/sessions/s/fork", json={"through": last})).json()["id"]
    await served.client.delete("/v1/sessions/s")
    assert (await served.client.get(f"/v1/sessions/{copy}/images/{REF}")).content == PICTURE
    told = await by_native(served, copy, "[[say=ok]] and now")
    assert told.status_code == 200, told.text
    assert asked(double, "and now")[0][1]["image_url"]["url"] == data_url(PICTURE)
    names = [f"chat:{{none.anonymous/{copy}}}:{name}" for name in ("session", "order", "messages")]
    assert len({round(int(str(store.ttl(name))) / 10) for name in names}) == 1
    assert store.hget(names[0], "images") == f"{REF} "


@WAYS
async def test_schemes_and_media_types_are_read_in_any_case(served: Served, double: Any, way: Any) -> None:
    shown = {
        data_url(PICTURE).replace("data:", "DATA:"): data_url(PICTURE),
        "HTTPS://e.com/a": "HTTPS://e.com/a",
    }
    for session, (url, told) in enumerate(shown.items()):
        answer = await way(served, str(session), "[[say=ok]]", url)
        assert answer.status_code == 200, answer.text
        body = orjson.loads(double.calls.find()[-1].body)
        assert told in [part["image_url"]["url"] for part in body["messages"][-1]["content"][1:]]
    for url in ("https://", "https:///a.png", "https://?a", "http://e.com/a.png"):
        assert (await way(served, "none", "[[say=ok]]", url)).status_code == 400, url


async def test_a_file_s_media_type_is_read_in_any_case(served: Served) -> None:
    file = {"type": "file", "mediaType": "IMAGE/PNG", "url": data_url(PICTURE)}
    message = {"id": "m1", "role": "user", "parts": [text("[[say=ok]]"), file]}
    answer = await served.client.post("/api/chat", json={"id": "s", "messages": [message], "model": SEES})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("url", [data_url(PICTURE), URL], ids=["data", "https"])
async def test_an_image_url_may_be_a_text(served: Served, url: str) -> None:
    content = [text("[[say=ok]]"), {"type": "image_url", "image_url": url}]
    body = {"model": SEES, "messages": [{"role": "user", "content": content}]}
    for path, asked in (
        ("/v1/chat/completions", body),
        ("/v1/sessions/s/turns", {"model": SEES, "content": content}),
    ):
        answer = await served.client.post(path, json=asked)
        assert answer.status_code == 200, answer.text


async def test_who_has_an_image_is_not_sent_it_again(served: Served) -> None:
    await by_native(served, "s", "[[say=ok]]", data_url(PICTURE))
    path = f"/v1/sessions/s/images/{REF}"
    etag = (await served.client.get(path)).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await served.client.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag), known
        assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
    assert (await served.client.get(path, headers={"If-None-Match": '"other"'})).content == PICTURE
    gone = await served.client.get(path.replace(REF, "0" * 64), headers={"If-None-Match": "*"})
    assert gone.status_code == 404
