"""When can a step's value be that of an earlier execution with the same key?

A step with `memoize` looks its key up before it does anything; a value that is there and young enough is its output, without
an attempt. Otherwise it runs, and what it gave is stored in the transaction of its completion: so a value is never there
without the record that made it, and never lost with one. What is kept is the value before `output.as`, so each step reshapes
it in its own way.

`run` values last as long as their Run; `workflow` values are one workflow's, by step id; `namespace` values are shared by all
workflows of a namespace, by what the step calls. Two Runs that ask at the same time both execute; the later one's value stays.

Source: memoisation of Argo Workflows. Read next: `kastra.engine.executor`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from kastra.failpoint import failpoint
from kastra.sql.interface import Statement

from .expressions import Condition, Variables
from .graph import Step
from .records import encode

if TYPE_CHECKING:
    from .past import Past

SCOPES = ("run", "workflow", "namespace")

REUSABLE = frozenset({"agent", "tool", "python", "workflow", "network", "do", "parallel", "forEach", "loop"})
"""Step kinds with a value that can stand for another execution; the others wait, jump or write the state."""

CALLING = frozenset({"agent", "tool", "workflow", "network"})
"""Step kinds that call something by name."""

Recall = Callable[[str, str, int], Awaitable[bytes | None]]
"""The stored value at a scope and key that holds at a time (milliseconds)."""

_STORE = (
    "INSERT INTO kv(scope, key, ver, expires_at, value) VALUES (?, ?, 1, ?, ?) ON CONFLICT(scope, key) DO UPDATE "
    "SET ver = ver + 1, expires_at = excluded.expires_at, value = excluded.value"
)
_SWEEP = "DELETE FROM kv WHERE scope = ? AND expires_at <= ?"


@dataclass(frozen=True, slots=True, eq=False)
class Memo:
    """When a step's value can be reused.

    Args:
        key: gives what must be equal.
        ttl: seconds for which a value holds; None for ever.
        scope: run, workflow or namespace.
    """

    key: Condition
    ttl: float | None
    scope: str


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one value: where it is stored, and until when one that is stored at `now` holds."""

    scope: str
    key: str
    ttl: float | None

    def store(self, value: Any, now: int) -> Sequence[Statement]:
        """The statements that keep a value and forget those whose time is up; `now` in milliseconds."""
        failpoint("memo.before_store")
        expires = None if self.ttl is None else now + int(self.ttl * 1000)
        kept = Statement(_STORE, (self.scope, self.key, expires, encode({"value": value})))
        return (kept, Statement(_SWEEP, (self.scope, now)))


def slot_of(step: Step, run_uid: str, root: str, variables: Variables) -> Slot:
    """Where a step's value is stored.

    Args:
        root: the workflow, as `Workflow/namespace/name`.
        variables: what the key's expression sees.

    Raises:
        StepError: the key can't be worked out.
    """
    memo = step.memo
    assert memo is not None
    digest = sha256(orjson.dumps(memo.key.evaluate(variables), option=orjson.OPT_SORT_KEYS)).hexdigest()
    _, namespace, name = root.split("/", 2)
    if memo.scope == "namespace":
        target = step.spec[step.kind]
        where = f"{step.kind}/{target.get('namespace') or namespace}/{target['name']}"
        return Slot(f"memo/{namespace}", f"{where}/{digest}", memo.ttl)
    if memo.scope == "run":
        return Slot(scope_of_run(run_uid), f"{step.path}/{digest}", memo.ttl)
    return Slot(f"memo/{namespace}/{name}", f"{step.id}/{step.kind}/{digest}", memo.ttl)


def scope_of_run(run_uid: str) -> str:
    """Where the values of one Run are stored."""
    return f"memo/run/{run_uid}"


def forget_run(run_uid: str) -> Statement:
    """Drops what only one Run could use."""
    return Statement("DELETE FROM kv WHERE scope = ?", (scope_of_run(run_uid),))


def undecided(past: "Past", key: str) -> bool:
    """Whether a crash may have come before the value was looked for: the step is scheduled, and nothing came of it yet.

    Args:
        past: what the journal tells; it knows the step at `key`.
    """
    if past.steps[key].failures or key in past.children or key in past.decisions:
        return False
    below = (f"{key}/", f"{key}[", f"{key}#")
    return not any(name.startswith(below) for names in (past.steps, past.decisions, past.timers) for name in names)


def recalled(data: bytes | None) -> tuple[bool, Any]:
    """(True, value) of what was stored, or (False, None)."""
    return (False, None) if data is None else (True, orjson.loads(data)["value"])
