"""Waiting for one object: until it is gone, until it exists, until it satisfies something. Bounded by the caller.

Each looks at the present state by a list, whose revision is one that can be watched from. Read next: `kastra.cli.wait`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio.lowlevel

from kastra.api.errors import Expired, not_found

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.api.object import Object
    from kastra.client.interface import Client


async def until_gone(client: "Client", ref: "ObjectRef", uid: str = "") -> None:
    """Return when there is no such object, or another one of the same name."""
    await _until(client, ref, lambda obj: obj is None or (uid != "" and obj.uid != uid))


async def until_created(client: "Client", ref: "ObjectRef") -> None:
    """Return when the object exists."""
    await _until(client, ref, lambda obj: obj is not None)


async def until_satisfied(client: "Client", ref: "ObjectRef", satisfied: "Callable[[Object], bool]") -> "Object":
    """The first state of the object that satisfies the predicate. Raises NotFound when it isn't there or goes."""
    found = await _until(client, ref, lambda obj: obj is None or satisfied(obj))
    if found is None:
        resource = client.scheme.find(ref.kind)
        raise not_found(resource.plural, resource.group, ref.name)
    return found


async def _until(client: "Client", ref: "ObjectRef", enough: "Callable[[Object | None], bool]") -> "Object | None":
    """The first state, None for absent, that is enough."""
    selector = f"metadata.name={ref.name}"
    while True:
        page = await client.list(ref.kind, ref.namespace or None, field_selector=selector)
        obj = page.items[0] if page.items else None
        if enough(obj):
            return obj
        try:
            async with client.watch(
                ref.kind, ref.namespace or None, field_selector=selector, resource_version=page.resource_version
            ) as events:
                async for event in events:
                    if event.type == "BOOKMARK":
                        continue
                    obj = None if event.type == "DELETED" else event.object
                    if enough(obj):
                        return obj
        except Expired:
            # Looking again must not keep everything else, such as a time-out, from happening.
            await anyio.lowlevel.checkpoint()
