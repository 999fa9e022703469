"""Images of sends that did not begin: what no message names goes at once, what one names stays."""

from __future__ import annotations

import hashlib

import redis

from service.store.turn_records import TurnRef
from tests.conftest import Start
from tests.integration.test_images import PICTURE, REF, by_native, messages
from tests.integration.test_turns import SLOW, begin
from tests.support.identity import bearer, make_key
from tests.support.pictures import data_url, png
from tests.support.service import Served


async def test_a_new_session_that_was_refused_leaves_nothing(start: Start, store: redis.Redis) -> None:
    async with start(auth="keys", max_running_turns_per_principal=1) as served:
        mine = bearer(await make_key(served, owner="me"))

        async def used() -> dict[str, int]:
            storage = (await served.client.get("/v1/usage", headers=mine)).json()["storage"]
            return {name: int(storage[name]["used"]) for name in ("sessions", "bytes")}

        await begin(served, "other", {"content": SLOW}, **mine)
        before = await used()
        refused = await by_native(served, "s", "what is it", data_url(png(extra=60_000)), **mine)
        assert (refused.status_code, refused.json()["code"]) == (429, "concurrency_limited")
        assert list(store.scan_iter("chat:{owner.me/s}*")) == []
        assert await used() == before


async def test_of_a_busy_session_the_new_image_goes_and_the_one_that_a_message_names_stays(
    served: Served, store: redis.Redis
) -> None:
    assert (await by_native(served, "s", "[[say=red]] what is it", data_url(PICTURE))).status_code == 200
    held = int(str(store.hget("chat:{none.anonymous/s}:session", "bytes")))
    await begin(served, "s", {"content": SLOW})
    other = png(5, 5)
    for picture in (PICTURE, other):
        refused = await by_native(served, "s", "and this", data_url(picture))
        assert refused.status_code == 409, refused.text
    assert (await served.client.get(f"/v1/sessions/s/images/{REF}")).content == PICTURE
    gone = hashlib.sha256(other).hexdigest()
    assert (await served.client.get(f"/v1/sessions/s/images/{gone}")).status_code == 404
    session: dict[str, str] = store.hgetall("chat:{none.anonymous/s}:session")  # type: ignore[assignment]  # not awaited
    assert session["images"] == f"{REF} "
    assert not [name for name in session if name.startswith("held")]
    assert held <= int(session["bytes"]) < held + 1_000
    assert len(await messages(served)) == 3


async def test_an_image_that_another_send_is_about_to_name_stays(served: Served) -> None:
    images = served.app.state.edge.engine.store.images
    first, second = (TurnRef("none.anonymous", "s", turn_id) for turn_id in ("t_1", "t_2"))
    assert await images.put(first, REF, PICTURE)
    assert await images.hold(second, REF)
    assert await images.release(first, REF, begun=False) == 0
    assert await images.get("none.anonymous", "s", REF) == PICTURE
    assert await images.release(second, REF, begun=False) == -1
    assert await images.get("none.anonymous", "s", REF) is None
    assert not await images.hold(second, REF)
