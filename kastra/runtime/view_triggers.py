"""What starts Runs of a Workflow by itself, in its normal form: schedules of its own, and triggers.

Only shapes; whether expressions compile is `kastra.runtime.triggers.compiled`' question, what a schedule means
`kastra.runtime.schedules`'. Read next: `controllers/workflow.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, StrictBool, StrictStr

from .view import Fields
from .view_types import Closed, Duration, read


class OwnSchedule(Closed):
    """A schedule of a Workflow."""

    name: StrictStr | None = None
    cron: StrictStr | None = None
    every: Duration | None = None
    time_zone: StrictStr | None = None
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] | None = None
    catch_up: Literal["None", "Latest", "All"] | None = None
    starting_deadline: Duration | None = None
    input: Any = None
    suspend: StrictBool | None = None


class OnlySchedule(OwnSchedule):
    """The one schedule of a Workflow, written without a list around it."""


def _listed(value: Any) -> Any:
    return [read(OnlySchedule, value, "")] if isinstance(value, Mapping) else value


OwnSchedules = Annotated[list[OwnSchedule], BeforeValidator(_listed)]
"""One schedule, or a list of them."""


class TriggerEvent(Fields):
    """An event that starts a Run."""

    type: str | None = None
    source: str | None = None
    subject: str | None = None
    filter: str | None = None
    correlate: dict[str, str] | None = None


class SecretKey(Fields):
    """One key of a Secret in the namespace of the Workflow."""

    name: str
    key: str


class Signature(Fields):
    """How a webhook proves where it comes from."""

    type: Literal["GitHub", "StandardWebhooks"]
    secret_key_ref: SecretKey
    tolerance: Duration | None = None


class Webhook(Fields):
    """A webhook that starts a Run."""

    path: str
    signature: Signature | None = None
    filter: str | None = None


class Trigger(Fields):
    """What starts a Run."""

    name: str | None = None
    event: TriggerEvent | None = None
    cron: str | None = None
    time_zone: str | None = None
    webhook: Webhook | None = None
    input: Any = None
    idempotency_key: str | None = None
