"""The CustomResourceDefinitions of the built-in kinds, brought into a store when they differ from what it has.

Reading eight schemas takes longer than everything else at start, so each definition carries the hash of the file it came
from, and a file whose hash is stored already isn't read. Read next: `kastra.apiserver.crds`.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import orjson

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.client.interface import Client
from kastra.manifest.decode import decode

SOURCE_HASH = "mastra.ai/source-hash"


def builtin_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of every definition in the package, by name: `agents.yaml`, ..."""
    for file in sorted(files("kastra.crds").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            yield file.name, file.read_bytes()


def builtin_definitions() -> list[dict[str, Any]]:
    """All definitions, parsed, each annotated with the hash of its file."""
    return [_parse(content) for _, content in builtin_files()]


async def outdated(client: Client) -> list[dict[str, Any]]:
    """The definitions that the server lacks or has from another file, parsed."""
    found: list[dict[str, Any]] = []
    for name, content in builtin_files():
        ref = ObjectRef("customresourcedefinitions", f"{name.removesuffix('.yaml')}.mastra.ai")
        try:
            stored = (await client.get(ref)).annotations.get(SOURCE_HASH)
        except NotFound:
            stored = None
        if stored != _hash(content):
            found.append(_parse(content))
    return found


def _parse(content: bytes) -> dict[str, Any]:
    definition: dict[str, Any] = orjson.loads(_as_json(content))
    return definition


@lru_cache(maxsize=64)
def _as_json(content: bytes) -> bytes:
    """A definition as JSON: whoever opens one store after the other, as a test suite does, reads the YAML once."""
    [document] = decode(content)
    definition: dict[str, Any] = document.value
    definition["metadata"].setdefault("annotations", {})[SOURCE_HASH] = _hash(content)
    return orjson.dumps(definition)


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]
