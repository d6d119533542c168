"""Closures of direct calls: what was resolved for one call serves the next, while it is the same.

A closure is built anew for each call, since what it refers to may have changed; equal ones are handed on as one object, so that
models, tools and compiled schemas that were made of it are used again. Read next: `kastra.agent.assembly`, which keeps those by the
closure's identity.
"""

from collections import OrderedDict
from typing import Any

from kastra.api.types import Closure

_KEPT = 256


class SameClosures:
    """Hands out one object for equal closures."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Closure] = OrderedDict()

    def one(self, closure: Closure) -> Closure:
        """The first closure of this content that was seen; the given one if it is new, or may not be shared."""
        digest = closure.get("hash")
        objects = closure["objects"]
        # What a server of tools offers may change under the same closure.
        if not digest or any(found["kind"] == "MCPServer" for found in objects.values()):
            return closure
        # Equal content in another object (deleted, made again) has other limits and another identity.
        key = (
            digest,
            closure["root"],
            *((name, o["uid"], o["generation"], len(o["refs"])) for name, o in objects.items()),
        )
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = closure
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found
