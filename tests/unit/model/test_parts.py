"""Messages with images and files, in the shapes in which people write them."""

from typing import Any

import pytest

from kastra.model.parts import MAX_PART, data_url, parts_of

PIXEL = "iVBORw0KGgo="


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"type": "image", "data": PIXEL, "mediaType": "image/png"}, {"data": PIXEL, "mediaType": "image/png"}),
        ({"type": "image", "image": f"data:image/png;base64,{PIXEL}"}, {"data": PIXEL, "mediaType": "image/png"}),
        ({"type": "image", "url": "https://x/y.png"}, {"url": "https://x/y.png"}),
        ({"type": "image_url", "image_url": {"url": "https://x/y"}}, {"url": "https://x/y"}),
        ({"type": "image_url", "image_url": "https://x/y"}, {"url": "https://x/y"}),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": PIXEL}},
            {"data": PIXEL, "mediaType": "image/gif"},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
            {"data": "JVBERi0=", "mediaType": "application/pdf", "filename": "a.pdf"},
        ),
        ({"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}, {"url": "https://x/a.pdf"}),
    ],
)
def test_every_shape_in_use_is_understood(given: dict[str, Any], part: dict[str, Any]) -> None:
    text, parts = parts_of([{"type": "text", "text": "See"}, given], "content")
    assert text == "See"
    assert {key: value for key, value in parts[1].items() if key != "type"} == part
    assert data_url(parts[1]).startswith(("https://", "data:"))


def test_text_alone_has_no_parts() -> None:
    assert parts_of("Hi", "content") == ("Hi", [])
    assert parts_of(["Hi", {"type": "text", "text": " you"}], "content") == ("Hi you", [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (7, "content: must be text"),
        ([], "content: must be text"),
        ([7], r"content\[0\]: must be a text or a part"),
        ([{"type": "video"}], r"content\[0\]\.type"),
        ([{"type": "text", "text": 7}], r"content\[0\]\.text"),
        ([{"type": "image"}], r"content\[0\]: needs data"),
        ([{"type": "image", "data": PIXEL}], r"content\[0\]\.mediaType: needed"),
        ([{"type": "image", "data": PIXEL, "mediaType": "image/tiff"}], "image/tiff is no type of image"),
        ([{"type": "image", "data": "%%%", "mediaType": "image/png"}], "no base64"),
        ([{"type": "image", "url": "file:///etc/passwd"}], "must begin with https"),
        ([{"type": "image", "url": "data:image/png,abc"}], "must begin with https"),
        ([{"type": "file", "data": "A" * (MAX_PART // 3 * 4 + 8), "mediaType": "a/b"}], "larger than"),
    ],
)
def test_anything_else_is_refused_with_its_place(content: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parts_of(content, "content")
