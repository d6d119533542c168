"""Group `encoding`: texts in other clothes, hashes, identifiers.

Read next: `kastra.tool.toolkit.bounds`.
"""

import base64
import binascii
import hashlib
import html
import uuid
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from kastra.tool.interface import ToolContext
from kastra.tool.toolkit.bounds import clip, text_of
from kastra.tool.toolkit.builtin import Builtin, Effect, unfit

Encoding = Literal["base64", "base64url", "hex", "url", "html"]
_RANDOM = Effect("computes", idempotent=False)


def encode(text: str, encoding: Encoding) -> str:
    """Encode a text as Base64, hex, percent-encoding or HTML entities."""
    data = text_of(text).encode("utf-8", "surrogatepass")
    if encoding == "base64":
        return clip(base64.b64encode(data).decode())
    if encoding == "base64url":
        return clip(base64.urlsafe_b64encode(data).decode().rstrip("="))
    if encoding == "hex":
        return clip(data.hex())
    return clip(quote(data, safe="") if encoding == "url" else html.escape(text))


def decode(text: str, encoding: Encoding) -> str:
    """Decode Base64, hex, percent-encoding or HTML entities to a text (UTF-8)."""
    text_of(text)
    try:
        if encoding in ("base64", "base64url"):
            compact = "".join(text.split()).rstrip("=")
            padded = compact + "=" * (-len(compact) % 4)
            data = base64.b64decode(padded, altchars=b"-_" if encoding == "base64url" else None, validate=True)
        elif encoding == "hex":
            data = bytes.fromhex(text)
        elif encoding == "url":
            return clip(unquote(text, errors="strict"))
        else:
            return clip(html.unescape(text))
        return clip(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise unfit("text: what it encodes is not UTF-8 text") from None
    except (binascii.Error, ValueError) as error:
        raise unfit(f"text: this is not {encoding}: {error}") from None


def hash_text(text: str, algorithm: Literal["sha256", "sha512", "sha1", "md5", "blake2b"] = "sha256") -> dict[str, str]:
    """Hash a text (UTF-8)."""
    digest = hashlib.new(algorithm, text_of(text).encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return {"algorithm": algorithm, "hash": digest.hexdigest()}


def make_uuid(
    context: ToolContext,
    name: Annotated[str, "With a name, the same identifier every time (version 5); otherwise a new one."] = "",
) -> str:
    """Make a UUID: a new one, or always the same for a name."""
    if name:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, text_of(name, "name", 10_000)))
    # A call that a crash interrupted gets the same one when it is made again.
    key = context.idempotency_key
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"kastra/{key}")) if key else str(uuid.uuid4())


def parse_url(url: str) -> dict[str, Any]:
    """Take a URL apart: scheme, host, port, path, query parameters, fragment."""
    try:
        parts = urlsplit(text_of(url, "url", 10_000).strip())
        port = parts.port
        query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise unfit(f"url: {error}") from None
    return {
        "scheme": parts.scheme,
        "host": parts.hostname or "",
        "port": port,
        "path": parts.path,
        "query": query,
        "fragment": parts.fragment,
    }


def build_query(parameters: dict[str, str | int | float | bool | list[str]]) -> str:
    """Write parameters as the query of a URL."""
    plain = {key: str(value).lower() if isinstance(value, bool) else value for key, value in parameters.items()}
    return clip(urlencode(plain, doseq=True))


TOOLS = (
    Builtin("encoding.encode", encode),
    Builtin("encoding.decode", decode),
    Builtin("encoding.hash", hash_text),
    Builtin("encoding.uuid", make_uuid, _RANDOM),
    Builtin("encoding.parse_url", parse_url),
    Builtin("encoding.build_query", build_query),
)
