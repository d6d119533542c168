"""Are the values that a spec takes from elsewhere (`valueFrom`) there, and have they changed?

Looks into the Secrets and ConfigMaps that the object's references led to, the environment and the project's files, and
tells what is missing and a digest of what is there. The digest shows a rotated key in `status.secretHash`, where a
Secret's own change raises no generation. It is keyed with the object's uid, so that equal values can't be recognised in
two objects. Values themselves go nowhere: what uses one reads it anew.

Read next: `kastra.app.secrets`, which reads values for execution.
"""

import base64
import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from kastra.api.object import Object

from .references import Resolution

MAX_FILE = 1 << 20
"""Bytes of a file that holds a value."""


class Values(NamedTuple):
    """What was found: `missing` says what isn't there, `digest` is empty when no value is taken from anywhere."""

    missing: list[str]
    digest: str


def examine_values(
    sources: Iterable[tuple[str, Mapping[str, Any]]], resolution: Resolution, folder: Path, uid: str
) -> Values:
    """Look at every source.

    Args:
        sources: (path, valueFrom in normal form).
        resolution: of the object's references, which include the Secrets and ConfigMaps.
        folder: of the project, below which files may be read.
        uid: of the object.
    """
    missing: list[str] = []
    digest = blake2b(key=uid.encode()[:64], digest_size=12)
    count = 0
    for path, source in sources:
        count += 1
        value, problem = _value(path, source, resolution, folder)
        if problem:
            missing.append(f"{path}: {problem}")
        digest.update(b"%d:%d:" % (count, -1 if value is None else len(value)) + (value or b""))
    return Values(missing, digest.hexdigest() if count else "")


def _value(path: str, source: Mapping[str, Any], resolution: Resolution, folder: Path) -> tuple[bytes | None, str]:
    for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
        if (reference := source.get(field)) is not None:
            obj = resolution.resolved.get(f"{path}.{field}")
            value = _key_of(obj, reference["key"], kind) if obj is not None else None
            if value is not None or reference.get("optional"):
                return value, ""
            where = f"{obj.namespace}/{obj.name}" if obj is not None else reference["name"]
            return None, f'{kind} {where} has no key "{reference["key"]}"'
    if (variable := source.get("env")) is not None:
        found = os.environ.get(variable)
        return (found.encode(), "") if found is not None else (None, f"environment variable {variable} is not set")
    return _file(str(source.get("file", "")), folder)


def _key_of(obj: Object, key: str, kind: str) -> bytes | None:
    text = (obj.data.get("data") or {}).get(key)
    if not isinstance(text, str):
        return None
    return base64.b64decode(text) if kind == "Secret" else text.encode()


def _file(name: str, folder: Path) -> tuple[bytes | None, str]:
    base = folder.resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base):
        return None, f"file {name} lies outside the project folder"
    try:
        if path.stat().st_size > MAX_FILE:
            return None, f"file {name} has more than {MAX_FILE:,} bytes"
        return path.read_bytes(), ""
    except OSError as error:
        return None, f"file {name} can't be read: {error.strerror}"
