"""What a pool is asked to execute: a Run, with everything that it resolved.

Plain data, journaled whole in RunStarted, so that recovery needs nothing but the journal. The closure goes to `blobs` under
its own hash, once for all Runs of one revision.

Read next: `kastra.engine.pool`.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kastra.api.types import Closure
from kastra.sql.interface import Durability, Statement

from .history import History
from .journal import blob
from .plan import Plan, plan_of
from .records import decode, encode
from .rerun import Rerun

_KEPT = 256


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A Run to be executed.

    Args:
        uid: of the Run object; a second order of the same uid is the first one again.
        closure: what it executes.
        durability: of its journal; `power` survives power loss, `process` only the death of the process.
        timeout: seconds it may take in all; None for what its target says.
        origin: first part of its idempotency keys; its own uid unless it repeats another Run's.
        options: what else the runner of a Run without a graph is handed (thread, messages, budget, ...).
        priority: who has a higher one goes first where Runs wait for places.
        rerun: the Run that it repeats, from one of its steps or whole; an input of None is then that Run's.
        budget: what it may consume, beside the limits of its target.
        created: milliseconds since the epoch; None for now.
    """

    uid: str
    namespace: str
    name: str
    closure: Closure
    input: Any = None
    durability: Durability = "power"
    timeout: float | None = None
    origin: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    created: int | None = None
    budget: Mapping[str, Any] | None = None
    rerun: Rerun | None = None
    priority: int = 0

    def started(self, closure_blob: str) -> dict[str, Any]:
        """The body of its RunStarted record."""
        root = self.closure["objects"][self.closure["root"]]
        return {
            "namespace": self.namespace,
            "name": self.name,
            "kind": root["kind"],
            "input": self.input,
            "durability": self.durability,
            "origin": self.origin or self.uid,
            "timeout": self.timeout,
            "options": dict(self.options),
            "closure": closure_blob,
            **({"priority": self.priority} if self.priority else {}),
            **({"budget": dict(self.budget)} if self.budget else {}),
            **({"rerunOf": {"name": self.rerun.name, "fromStep": self.rerun.from_step}} if self.rerun else {}),
        }


class Plans:
    """Compiled closures, the most recent ones kept."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._blobs: OrderedDict[str, tuple[str, Statement]] = OrderedDict()

    def store(self, closure: Closure) -> tuple[str, Statement]:
        """The name of a closure's blob, and the statement that puts it there unless it is there already.

        Every Run commits it with its first record: what was there a moment ago may be gone with the last Run that named it.
        """
        revision = closure.get("hash", "")
        known = self._blobs.get(revision)
        if known is not None:
            return known
        found = blob(encode(closure))
        if revision:
            _keep(self._blobs, revision, found)
        return found

    def plan(self, name: str, closure: Closure) -> Plan:
        """The plan of a closure whose blob is `name`.

        Raises:
            GraphError, StepError: see `plan_of`.
        """
        plan = self._plans.get(name)
        if plan is None:
            plan = plan_of(closure)
            _keep(self._plans, name, plan)
        return plan

    async def load(self, name: str, history: History) -> Plan:
        """The plan of the closure in blob `name`.

        Raises:
            GraphError, StepError: see `plan_of`.
            LookupError: there is no such blob.
        """
        plan = self._plans.get(name)
        if plan is None:
            closure: Closure = decode(await history.blob(name))
            plan = self.plan(name, closure)
        return plan


def _keep(kept: "OrderedDict[str, Any]", key: str, value: Any) -> None:
    kept[key] = value
    if len(kept) > _KEPT:
        kept.popitem(last=False)
