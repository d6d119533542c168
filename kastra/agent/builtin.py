"""A tool of the built-in toolkit that an agent names itself, as if a Tool object stood for it.

Read next: `kastra.tool.toolkit.body`.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from kastra.api.types import ClosureObject
from kastra.tool.toolkit.catalogue import builtins

from .models import refuse


def builtin_object(use: Mapping[str, Any], namespace: str, path: str) -> ClosureObject:
    """What a Tool with this body would be in a closure; equal uses are the same object.

    Args:
        use: `{name}` and settings.
        namespace: of the agent.
        path: of the field, for messages.

    Raises:
        StepError: there is no such tool (type `validation`).
    """
    tool = builtins().get(str(use.get("name")))
    if tool is None:
        raise refuse(f"{path}: there is no built-in tool {str(use.get('name'))[:100]!r}")
    identity = sha256(orjson.dumps(dict(use), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    return {
        "kind": "Tool",
        "namespace": namespace,
        "name": tool.name,
        "uid": f"builtin/{identity}",
        "generation": 0,
        "spec": tool.spec(use),
        "refs": {},
    }
