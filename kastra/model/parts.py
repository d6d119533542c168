"""What do people mean by a message's content? Text, or a list of parts: text, images, files, in the shapes that are in use.

    {type: text, text}                                   a text as it is counts, too
    {type: image, data | url, mediaType}                 `image` stands for either; data is base64, or a data: URL
    {type: image_url, image_url: {url}}                  OpenAI's
    {type: file, data | url, mediaType, filename}        `file: {file_data, filename}` is OpenAI's
    {type: image | document, source: {...}}              Anthropic's

Reads and checks; fetches nothing: a `url` is for the provider, who fetches it or refuses. Read next:
`kastra.model.openai`, which writes parts for its wire.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .interface import Part

MAX_PART = 20 * 1024 * 1024
"""Bytes of one image or file, decoded."""
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,", re.ASCII)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def parts_of(content: Any, path: str) -> tuple[str, list[Part]]:
    """A message's text, and its parts if it is more than text.

    Args:
        content: text, or a list of parts.
        path: where it stands, for messages.

    Raises:
        ValueError: it is neither; the message begins with the exact place.
    """
    if isinstance(content, str):
        return content, []
    if not isinstance(content, Sequence) or not content:
        raise ValueError(f"{path}: must be text, or a list of parts {{type: text | image | file, ...}}")
    parts = [_part(part, f"{path}[{index}]") for index, part in enumerate(content)]
    text = "".join(part.get("text", "") for part in parts if part["type"] == "text")
    return text, [] if all(part["type"] == "text" for part in parts) else parts


def _part(given: Any, path: str) -> Part:
    if isinstance(given, str):
        return {"type": "text", "text": given}
    if not isinstance(given, Mapping):
        raise ValueError(f"{path}: must be a text or a part {{type, ...}}")
    kind = given.get("type")
    if kind == "text":
        if not isinstance(given.get("text"), str):
            raise ValueError(f"{path}.text: must be a text")
        return {"type": "text", "text": given["text"]}
    if kind in ("image", "image_url", "input_image"):
        return _media("image", given, path)
    if kind in ("file", "document", "input_file"):
        return _media("file", given, path)
    raise ValueError(f"{path}.type: must be text, image or file")


def _media(kind: Literal["image", "file"], given: Mapping[str, Any], path: str) -> Part:
    inner: Mapping[str, Any] = next(
        (given[key] for key in ("image_url", "file", "source") if isinstance(given.get(key), Mapping)), {}
    )
    fields = {**given, **inner}
    value = next(
        (fields[key] for key in ("data", "url", kind, "image_url", "file_data") if isinstance(fields.get(key), str)), ""
    )
    if not value:
        raise ValueError(f"{path}: needs data (base64) or a url")
    part: Part = {"type": kind}
    name = fields.get("filename") or fields.get("title")
    if isinstance(name, str) and kind == "file":
        part["filename"] = name
    if value.startswith(("https://", "http://")):
        part["url"] = value
        return part
    media_type = fields.get("mediaType") or fields.get("mimeType") or fields.get("media_type")
    if match := _DATA_URL.match(value):
        value, media_type = value[match.end() :], match[1] or media_type
    elif value.startswith("data:") or "://" in value[:32]:
        raise ValueError(f"{path}: a url must begin with https:// or data:<type>;base64,")
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise ValueError(f"{path}.mediaType: needed beside data, such as image/png")
    if kind == "image" and media_type not in _IMAGES:
        raise ValueError(
            f"{path}.mediaType: {media_type} is no type of image that models read: {', '.join(sorted(_IMAGES))}"
        )
    if len(value) // 4 * 3 > MAX_PART:
        raise ValueError(f"{path}: larger than {MAX_PART:,} bytes")
    try:
        b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{path}: its data is no base64") from None
    part["data"], part["mediaType"] = value, media_type
    return part


def data_url(part: Part) -> str:
    """Where a part's content is, as one URL: its own, or its data."""
    return part["url"] if "url" in part else f"data:{part.get('mediaType', '')};base64,{part.get('data', '')}"
