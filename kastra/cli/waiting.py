"""Waiting for one object: until it is gone, until it exists, until it satisfies something. Bounded by the caller.

Read next: `kastra.app.running`, whose `wait_until` waits for an object that exists.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kastra.api.errors import Expired, NotFound

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.api.object import Object
    from kastra.client.interface import Client


async def until_gone(client: "Client", ref: "ObjectRef", uid: str = "") -> None:
    """Return when there is no such object, or another one of the same name."""
    while True:
        try:
            obj = await client.get(ref)
        except NotFound:
            return
        if uid and obj.uid != uid:
            return
        if await _next_change(client, ref, obj.resource_version, lambda changed: False):
            return


async def until_created(client: "Client", ref: "ObjectRef") -> "Object":
    """The object, when it exists."""
    while True:
        try:
            return await client.get(ref)
        except NotFound:
            page = await client.list(ref.kind, ref.namespace or None, field_selector=f"metadata.name={ref.name}")
            if not page.items:
                await _next_change(client, ref, page.resource_version, lambda changed: True)


async def until_satisfied(client: "Client", ref: "ObjectRef", satisfied: "Callable[[Object], bool]") -> "Object":
    """The first state of the object that satisfies the predicate. Raises NotFound when it isn't there or goes."""
    from kastra.app.running import wait_until

    while True:
        try:
            return await wait_until(client, ref, satisfied)
        except Expired:
            continue


async def _next_change(client: "Client", ref: "ObjectRef", since: str, enough: "Callable[[Object], bool]") -> bool:
    """Whether the object was deleted after `since`; returns early on a change that is enough, or to look anew."""
    try:
        async with client.watch(
            ref.kind, ref.namespace or None, field_selector=f"metadata.name={ref.name}", resource_version=since
        ) as events:
            async for event in events:
                if event.type == "DELETED":
                    return True
                if event.type != "BOOKMARK" and enough(event.object):
                    return False
    except Expired:
        pass
    return False
