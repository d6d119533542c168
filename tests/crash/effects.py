"""What the workload of generated workflows and the oracle agree on: what a tool gives, what people say, how a child Run is called."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from zlib import crc32

STARTED = "2020-01-01T00:00:00Z"
"""When people decide."""


def plainly(value: Any) -> Any:
    """A value with problem objects reduced to what is promised of them: the type, and the step that failed."""
    if isinstance(value, Mapping):
        if "type" in value and "title" in value:
            return {"type": value["type"], "step": (value.get("details") or {}).get("step", "")}
        return {key: plainly(item) for key, item in value.items()}
    return [plainly(item) for item in value] if isinstance(value, list) else value


def digest(value: Any) -> int:
    """What a tool makes of its input: a number that changes with everything in it."""
    return crc32(json.dumps(plainly(value), sort_keys=True).encode()) % 1000


def child_name(run: str, uid: str, key: str) -> str:
    """The name of a child Run follows from its parent and the step."""
    return f"{run[:52].rstrip('-.')}-{sha256(f'{uid}/{key}'.encode()).hexdigest()[:10]}"
