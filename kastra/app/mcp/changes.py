"""When has the list of exported tools changed? Watched, and compared: an object whose status changes is still the same tool.

Read next: `kastra.app.mcp.protocol`, which tells clients.
"""

from collections.abc import Awaitable, Callable

import anyio

from kastra.api.errors import Expired, StatusError
from kastra.api.meta import GROUP
from kastra.client.interface import Client
from kastra.clock import Clock

from .exports import KINDS, SELECTOR, Namespaces, digest, exports

_SETTLE = 0.1
"""Seconds in which changes are taken together."""
_PAUSE = 5.0
"""Seconds until a watch that broke is tried again."""


async def follow_changes(
    client: Client, namespaces: Namespaces, clock: Clock, tell: Callable[[], Awaitable[None]]
) -> None:
    """Call `tell` whenever the exported tools have become others; goes on until it is cancelled."""
    changed = _Changed()
    async with anyio.create_task_group() as tasks:
        for kind in KINDS:
            tasks.start_soon(_watch, client, f"{kind}.{GROUP}", clock, changed)
        known: str | None = None
        while True:
            try:
                now = digest(await exports(client, namespaces))
            except (StatusError, OSError):
                # The server is away; whoever lists tools meanwhile is told so.
                now = known or ""
            if known is not None and now != known:
                await tell()
            known = now
            await changed.event.wait()
            await clock.sleep(_SETTLE)
            changed.event = anyio.Event()


class _Changed:
    """Set by watches, replaced by who has seen it."""

    def __init__(self) -> None:
        self.event = anyio.Event()


async def _watch(client: Client, kind: str, clock: Clock, changed: _Changed) -> None:
    while True:
        try:
            page = await client.list(kind, label_selector=SELECTOR, limit=1)
            async with client.watch(kind, label_selector=SELECTOR, resource_version=page.resource_version) as events:
                async for _ in events:
                    changed.event.set()
        except Expired:
            changed.event.set()
        except (StatusError, OSError):
            # One who may not watch, or has nobody to ask now, asks again later.
            await clock.sleep(_PAUSE)
            changed.event.set()
