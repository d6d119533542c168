"""Events for the built-in tools: into the mailroom, as the step `emit` puts them there.

Read next: `kastra.tool.toolkit.events`, `kastra.engine.mailroom`.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from kastra.api.cloudevents import MAX_ATTRIBUTE, parse_event
from kastra.api.errors import BadRequest, Forbidden, RequestEntityTooLarge
from kastra.api.meta import API_VERSION
from kastra.engine.mailroom import Mailroom
from kastra.failpoint import failpoint
from kastra.tool.interface import ToolContext
from kastra.tool.toolkit.builtin import forbidden, unfit

from .tool_callers import require


class ToolEvents:
    """`kastra.tool.platform.Events` over the mailroom.

    Args:
        mailroom: tells which, once there is one.
    """

    def __init__(self, mailroom: Callable[[], Mailroom]) -> None:
        self._mailroom = mailroom

    async def emit(self, namespace: str, kind: str, subject: str, data: Any, context: ToolContext) -> dict[str, Any]:
        """Deliver an event. Raises ToolError."""
        place = f"/apis/{API_VERSION}/namespaces/{context.run_namespace or namespace}"
        key = context.idempotency_key
        event: dict[str, Any] = {
            "specversion": "1.0",
            # The same in every attempt and after every crash, so that the mailroom knows a second one.
            "id": key if len(key) <= MAX_ATTRIBUTE else sha256(key.encode()).hexdigest(),
            "source": f"{place}/runs/{context.run_name}" if context.run_name else f"{place}/calls/{context.run}",
            "type": kind,
        }
        if subject:
            event["subject"] = subject
        if data is not None:
            event["data"] = data
        try:
            parsed = parse_event(event)
            await require("create", "cloudevents", namespace)
        except (BadRequest, RequestEntityTooLarge) as error:
            raise unfit(f"the event can't be emitted: {error.message}") from None
        except Forbidden as error:
            raise forbidden(error.message) from None
        failpoint("tool.before_emit")
        await self._mailroom().deliver(namespace, parsed)
        failpoint("tool.after_emit")
        return {"id": parsed.id, "source": parsed.source, "type": parsed.type}
