"""Values that specs refer to, read when they are needed: from Secrets, ConfigMaps, the environment, or files of the project.

What is read is registered for redaction before it is handed out, so that no log line can show it. Nothing is cached: a
rotated key is used by the next call. Read next: `kastra.agent.services`, which asks.
"""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.client.interface import Reader
from kastra.telemetry import register_secret

_SOURCES = ("secretKeyRef", "configMapKeyRef", "env", "file")
_MAX_FILE = 1 << 20
_SHOWN = 200


class ClientSecrets:
    """Reads through a client.

    Args:
        client: sees the Secrets and ConfigMaps.
        folder: below which files may be read; None to refuse `file`.
    """

    def __init__(self, client: Reader, folder: Path | None) -> None:
        self._client = client
        self._folder = folder.resolve() if folder is not None else None

    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        """The value of exactly one of `secretKeyRef`, `configMapKeyRef`, `env`, `file`.

        Raises:
            LookupError: it isn't there and not optional; the message names what is missing and never a value.
        """
        given = [source for source in _SOURCES if value_from.get(source) is not None]
        if len(given) != 1:
            raise LookupError(f"valueFrom needs exactly one of {', '.join(_SOURCES)}")
        [source] = given
        reference = value_from[source]
        if source == "env":
            name = reference if isinstance(reference, str) else str(reference.get("name", ""))
            return self._checked(os.environ.get(name), f"environment variable {name}", reference)
        if source == "file":
            path = reference if isinstance(reference, str) else str(reference.get("path", ""))
            return self._checked(self._file(path), f"file {path[:_SHOWN]}", reference)
        return await self._key(source, reference, namespace)

    async def _key(self, source: str, reference: Mapping[str, Any], namespace: str) -> str:
        kind = "Secret" if source == "secretKeyRef" else "ConfigMap"
        name, key = reference.get("name", ""), reference.get("key", "")
        try:
            found = await self._client.get(ObjectRef(f"{kind.lower()}s", name, namespace))
        except NotFound:
            return self._checked(None, f"{kind} {namespace}/{name}", reference)
        value = (found.data.get("data") or {}).get(key)
        if value is not None and kind == "Secret":
            value = base64.b64decode(value).decode("utf-8", "replace").rstrip("\n")
        return self._checked(value, f"key {key} of {kind} {namespace}/{name}", reference, secret=kind == "Secret")

    def _file(self, path: str) -> str | None:
        shown = path[:_SHOWN]
        if self._folder is None:
            raise LookupError(f"file {shown}: this process reads no files for manifests")
        try:
            resolved = (self._folder / path).resolve()
            if not resolved.is_relative_to(self._folder):
                raise LookupError(f"file {shown} lies outside the project folder")
            if not resolved.is_file():
                return None
            if resolved.stat().st_size > _MAX_FILE:
                raise LookupError(f"file {shown} has more than {_MAX_FILE:,} bytes")
            return resolved.read_text(encoding="utf-8", errors="replace").rstrip("\n")
        except (OSError, ValueError, RuntimeError) as error:
            # No permission; a name that can't be one; a link that leads to itself.
            why = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
            raise LookupError(f"file {shown} can't be read: {why}") from None

    def _checked(self, value: str | None, what: str, reference: Any, *, secret: bool = True) -> str:
        if value is None:
            if isinstance(reference, Mapping) and reference.get("optional"):
                return ""
            raise LookupError(f"{what} does not exist")
        if secret and value:
            register_secret(value)
        return value
