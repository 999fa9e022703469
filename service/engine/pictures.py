"""Images in turns: which model may be asked, where they are stored, and which of them a model is sent.

An image of a data URL is kept beside the messages of its session, which name it by its digest (`ref`); an
https URL is passed on and never fetched. Invariants: a question with images is answered by a model that takes
them, also by fallbacks and in a second answer or its rest; a prompt has the newest images that the model
takes, and words in the place of the others.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from service import parts
from service.config.settings import Settings
from service.engine.sends import Send
from service.engine.storage import Storage
from service.errors import ServiceError, StoreUnavailable
from service.images import Image, size_of
from service.parts import REF, Chat, Part
from service.store.images import IMAGE_BYTES, Images
from service.store.turn_records import TurnRef
from service.upstream.models import Catalogue, ImageRules, Model

#: the words in the place of an image that a model is not sent
LEFT_OUT: Final = "[an image that is not shown here]"
_SWEEPS: Final = 3
# Pixels of an image that any model takes: 8K, Groq's bound.
_MOST_PIXELS: Final = 7_680 * 4_320


@dataclass(slots=True)
class Keeping:
    """A block around a call that stores images: they are released at its end, unless it sets `begun`."""

    _pictures: Pictures
    _ref: TurnRef
    names: list[str] = field(default_factory=list)
    begun: bool = False

    async def __aenter__(self) -> Keeping:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a StoreUnavailable the turn may have begun all the same: then its images stay.
        known = error is None or (isinstance(error, ServiceError) and not isinstance(error, StoreUnavailable))
        if known and self.names:
            await self._pictures.let_go(self._ref, self)


class Pictures:
    def __init__(self, settings: Settings, images: Images, storage: Storage, catalogue: Catalogue) -> None:
        self._images = images
        self._storage = storage
        self._catalogue = catalogue
        self._falls_back = settings.image_fallback

    def model_for(self, send: Send, model: Model, again: Sequence[Part] = ()) -> Model:
        """The model, or with CHAT_IMAGE_FALLBACK the first of its fallbacks that takes the send's images.

        `again`: the parts of a stored question that is answered again, whose images count too.
        Raises unsupported_parameter, invalid_request, image_too_large.
        """
        stored = [part for part in again if part["type"] == parts.IMAGE]
        count = sum(1 for _ in _urls(send)) + len(stored)
        if not count:
            return model
        chain = self._catalogue.chain(model) if self._falls_back else [model]
        taking = next((one for one in chain if one.images is not None), None)
        if taking is None or taking.images is None:
            raise ServiceError(
                "unsupported_parameter",
                f"The model {model.id} takes no images.",
                param="input" if send.route == "responses" else "messages",
            )
        if count > taking.images.count:
            raise ServiceError(
                "invalid_request", f"The model {taking.id} takes {taking.images.count} images at most."
            )
        if sum(len(image.data) for image in send.images.values()) > taking.images.bytes:
            raise ServiceError(
                "image_too_large", f"The model {taking.id} takes {taking.images.bytes} bytes of images."
            )
        for size in (image.size for image in send.images.values()):
            _check(size.kind, size.width * size.height, taking.id, taking.images)
        for part in stored:
            if "width" in part:  # checked when it came, by the rules of another model maybe
                kind = part["media_type"].removeprefix("image/")
                _check(kind, part["width"] * part["height"], taking.id, taking.images)
        measure([*send.parts, *(part for seed in send.seeds for part in seed.get("parts", ()))], send.images)
        messages = send.messages or []
        for i, j, url in _image_parts(messages):
            new = send.images.get(url.removeprefix(REF))
            if new is not None:
                messages[i]["content"][j]["pixels"] = [new.size.width, new.size.height]
        send.params = {**send.params, "images": True}
        return taking

    def chain(self, model: Model, params: dict[str, Any]) -> list[Model]:
        """The model and its fallbacks; for a turn with images only those that take images."""
        chain = self._catalogue.chain(model)
        return [one for one in chain if one.images is not None] if params.get("images") else chain

    @staticmethod
    def prefer(chain: list[Model], model: Model, messages: list[Chat]) -> None:
        """For a prompt with images, put the fallbacks behind the model first that take images."""
        if any(True for _ in _image_parts(messages)):
            behind = chain.index(model) + 1
            chain[behind:] = sorted(chain[behind:], key=lambda one: one.images is None)

    def keeping(self, ref: TurnRef) -> Keeping:
        return Keeping(self, ref)

    async def keep_all(self, send: Send, ref: TurnRef, keeping: Keeping, *, there: bool) -> None:
        """Store the send's images beside its session. `there`: the session exists already.

        Raises storage_full, invalid_request, store_unavailable.
        """
        if send.must_exist and not there:
            return
        if send.charging is not None:
            await send.charging.charge_now()  # before anything is stored
        urls = [url.removeprefix(REF) for url in _urls(send) if url.startswith(REF)]
        await self.keep(ref, urls, send.images, keeping)
        for name in _copied(send):
            data = await self._images.get(ref.principal, send.seeds_from, name)
            if data is not None and not await self._holds(ref, name, keeping):
                await self._put(ref, name, data, keeping)

    async def keep(
        self, ref: TurnRef, names: Iterable[str], images: Mapping[str, Image], keeping: Keeping
    ) -> None:
        """`images` are new. Raises storage_full, invalid_request where the session has no such image."""
        for name in names:
            if await self._holds(ref, name, keeping):
                continue
            image = images.get(name)
            if image is None:
                raise ServiceError("invalid_request", "There is no such image in this session.")
            await self._put(ref, name, image.data, keeping)

    async def let_go(self, ref: TurnRef, keeping: Keeping) -> None:
        with contextlib.suppress(StoreUnavailable):  # then they stay until the session expires
            for name in keeping.names:
                await self._release(ref, name, begun=keeping.begun)

    async def _release(self, ref: TurnRef, name: str, *, begun: bool = False, unnamed: str = "") -> None:
        freed = await self._images.release(ref, name, begun=begun, unnamed=unnamed)
        if freed:
            await self._storage.freed(ref.principal, ref.session_id, freed)

    async def sweep(self, principal: str, session_id: str) -> None:
        """Free the images that no message and no version names any more, after an edit or the like.

        An image that cannot be freed now goes at the next sweep, or with the session.
        """
        nobody = TurnRef(principal, session_id, "-")
        with contextlib.suppress(StoreUnavailable):
            for _ in range(_SWEEPS):  # again, if a turn has begun meanwhile, which may name one
                names, state = await self._images.unnamed(principal, session_id)
                if not names:
                    return
                for name in names:
                    await self._release(nobody, name, unnamed=state)

    async def _holds(self, ref: TurnRef, name: str, keeping: Keeping) -> bool:
        known = await self._images.hold(ref, name)
        if known:
            keeping.names.append(name)
        return known

    async def _put(self, ref: TurnRef, name: str, data: bytes, keeping: Keeping) -> None:
        await self._storage.charge(ref.principal, ref.session_id, len(data) + IMAGE_BYTES, new=False)
        keeping.names.append(name)
        await self._images.put(ref, name, data)

    async def shown(self, ref: TurnRef, messages: list[Chat], model: Model) -> list[Chat]:
        """The messages as the model is sent them. Raises store_unavailable."""
        found = [(i, j) for i, j, _ in _image_parts(messages)]
        if not found:
            return messages
        kept: dict[tuple[int, int], str] = {}
        left = model.images.bytes if model.images else 0
        for place in reversed(found[-model.images.count :] if model.images else []):
            url = messages[place[0]]["content"][place[1]]["image_url"]["url"]
            if url.startswith(REF):
                data = await self._images.get(ref.principal, ref.session_id, url.removeprefix(REF))
                size = size_of(data) if data else None
                if data is None or size is None or len(data) > left:
                    continue
                left -= len(data)
                url = f"data:image/{size.kind};base64,{base64.b64encode(data).decode()}"
            kept[place] = url
        return [_told(message, i, kept) for i, message in enumerate(messages)]


def measure(whole: Iterable[Part], images: Mapping[str, Image]) -> None:
    """Set type and size of new images in the parts that name them. Raises image_too_large."""
    for part in whole:
        new = images.get(part.get("ref", ""))
        if new is not None:
            size = new.size
            if size.width * size.height > _MOST_PIXELS:
                raise _too_large()
            part |= {"media_type": f"image/{size.kind}", "width": size.width, "height": size.height}


def _too_large() -> ServiceError:
    return ServiceError("image_too_large", f"An image has more than {_MOST_PIXELS} pixels.")


def _check(kind: str, pixels: int, model: str, rules: ImageRules) -> None:
    if kind not in rules.formats:
        raise ServiceError(
            "unsupported_parameter", f"The model {model} takes images in {', '.join(rules.formats)}."
        )
    if pixels > _MOST_PIXELS:
        raise _too_large()


def _urls(send: Send) -> Iterator[str]:
    """URLs of the images of the message or, if the caller sends a whole context, of that."""
    if send.messages is not None:
        for _, _, url in _image_parts(send.messages):
            yield url
        return
    for part in send.parts:
        if part["type"] == parts.IMAGE:
            yield part["url"] if "url" in part else f"{REF}{part['ref']}"


def _copied(send: Send) -> set[str]:
    """Digests of images in seeds that are copied from another session."""
    said = [part for seed in send.seeds for part in seed.get("parts", ())] if send.seeds_from else []
    return {part["ref"] for part in said if part["type"] == parts.IMAGE and "ref" in part}


def _image_parts(messages: list[Chat]) -> Iterator[tuple[int, int, str]]:
    for i, message in enumerate(messages):
        if isinstance(message.get("content"), list):
            for j, part in enumerate(message["content"]):
                if part["type"] == "image_url":
                    yield i, j, part["image_url"]["url"]


def _told(message: Chat, i: int, kept: dict[tuple[int, int], str]) -> Chat:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    told: list[dict[str, Any]] = []
    for j, part in enumerate(content):
        if part["type"] != "image_url":
            told.append(part)
        elif (i, j) in kept:
            told.append({"type": "image_url", "image_url": {"url": kept[i, j]}})
        else:
            told.append({"type": "text", "text": LEFT_OUT})
    if all(part["type"] == "text" for part in told):  # not every model takes lists
        return {**message, "content": "\n".join(part["text"] for part in told)}
    return {**message, "content": told}
