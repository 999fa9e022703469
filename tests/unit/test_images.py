"""Images in requests: what they are is read off their bytes, and what is no image is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ServiceError
from service.images import decoded, size_of
from tests.support.pictures import data_url, gif, jpeg, png, webp


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(300, 200), "png"),
        (gif(300, 200), "gif"),
        (jpeg(300, 200), "jpeg"),
        (webp("VP8 ", 300, 200), "webp"),
        (webp("VP8L", 300, 200), "webp"),
        (webp("VP8X", 300, 200), "webp"),
    ],
    ids=["png", "gif", "jpeg", "lossy webp", "lossless webp", "extended webp"],
)
def test_kind_and_pixels_are_read_off_the_head(data: bytes, kind: str) -> None:
    size = size_of(data)
    assert size is not None
    assert (size.kind, size.width, size.height) == (kind, 300, 200)
    for cut in range(0, min(len(data), 24), 3):
        size_of(data[:cut])  # whatever it is, it is no exception


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        png(0, 5),
        gif(0, 5),
        b"GIF8" + bytes(20),
        b"\xff\xd8\xff" + bytes(40),
        b"\xff\xd8\xff\xe0\xff\xff",
        b"RIFF\0\0\0\0WAVEfmt ",
    ],
)
def test_what_is_no_image_is_none(data: bytes) -> None:
    assert size_of(data) is None


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"\xff\xd8\xff"])
)
def test_no_bytes_are_an_exception(data: bytes, head: bytes) -> None:
    size_of(head + data)


@pytest.mark.parametrize("extra", [0, 1, 2, 3_000])
@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
async def test_base64_may_be_in_lines_and_without_its_end(extra: int, end: str) -> None:
    data = png(7, 8, extra=extra)
    head, _, text = data_url(data, "image/png").partition(",")
    lines = end.join(text[place : place + 76] for place in range(0, len(text), 76)) + end
    for written in (lines, text.rstrip("="), lines.replace("=", "")):
        assert (await decoded(f"{head},{written}", len(data), "here")).data == data


async def test_a_data_url_is_known_by_its_bytes_whatever_it_says_it_is() -> None:
    data = png(7, 8, extra=3_000_000)
    image = await decoded(data_url(data, "image/jpeg"), 4_000_000, "here")
    assert (image.data, image.ref) == (data, hashlib.sha256(data).hexdigest())
    assert (image.size.kind, image.size.width, image.size.height) == ("png", 7, 8)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/png,abc", "invalid_request"),
        ("data:image/png;base64", "invalid_request"),
        ("data:;base64,", "invalid_request"),
        ("data:image/png;base64,@@@@", "invalid_request"),
        ("data:image/png;base64,iVBORw0KGgo", "invalid_request"),
        ("data:image/png;base64,\u00e4\u00e4\u00e4\u00e4", "invalid_request"),
        (data_url(b"<svg/>", "image/svg+xml"), "invalid_request"),
        (data_url(png(extra=2_000)), "image_too_large"),
    ],
)
async def test_what_cannot_be_taken_is_refused_with_its_place(url: str, code: str) -> None:
    with pytest.raises(ServiceError) as refused:
        await decoded(url, 1_000, "messages.0.content.1")
    assert (refused.value.code, refused.value.param) == (code, "messages.0.content.1")
