"""Group `event`: CloudEvents to the namespace, as the step `emit` sends them.

The manifest names the types that may be emitted. An event's id is the call's idempotency key, so one that is sent again after
a crash is known to be the same; its source is the Run, by which chains of Runs that start each other come to an end.

Read next: `kastra.tool.platform`.
"""

import re
from typing import Annotated, Any

from kastra.tool.interface import ToolContext
from kastra.tool.toolkit.bounds import bounded
from kastra.tool.toolkit.builtin import SEND, Builtin, forbidden
from kastra.tool.toolkit.kit import Kit, absent


async def emit(
    kit: Kit,
    context: ToolContext,
    type: Annotated[str, "What happened, such as order.created."],  # noqa: A002 - as CloudEvents call it
    data: Annotated[Any, "A JSON value: what is to be known about it."] = None,
    subject: Annotated[str, "What it happened to."] = "",
) -> dict[str, Any]:
    """Emit an event: workflows that are triggered by its type start, runs that wait for it go on."""
    allowed = [str(pattern) for pattern in kit.settings.get("types") or ()]
    if not any(_fits(type, pattern) for pattern in allowed):
        raise forbidden(f"events of type {type[:100]!r} may not be emitted; allowed: {', '.join(allowed)}")
    events = kit.platform.events
    if events is None:
        raise absent("events")
    return await events.emit(kit.namespace, type, subject, bounded(data, "data"), context)


def _fits(kind: str, pattern: str) -> bool:
    """Whether a type is one that a pattern stands for: `*` is any part, as in `hosts`."""
    return re.fullmatch(".*".join(re.escape(part) for part in re.split(r"\*+", pattern)), kind) is not None


TOOLS = (Builtin("event.emit", emit, SEND, ("types",), ("types",)),)
