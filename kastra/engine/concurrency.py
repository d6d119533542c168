"""How many Runs of a workflow go on at once, and what becomes of those beyond?

A workflow with `concurrency.maxRuns` has groups: one for all its Runs, or one per value of `key`. A Run belongs to its group
from the moment in which it begins until it has ended, also while it is suspended, and also across processes: which group is
in its first record. A further one is queued until another has ended (`Queue`), refused (`Reject`), or makes the oldest end
(`Replace`).

It decides and counts; the pool begins and cancels. Source: concurrency groups of GitHub Actions; `concurrencyPolicy` of
CronJob. Read next: `kastra.engine.pool`.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson

from kastra.api.types import Closure
from kastra.cel import References

from .expressions import Condition
from .step import StepError

POLICIES = ("Queue", "Reject", "Replace")


@dataclass(frozen=True, slots=True)
class Group:
    """Where a Run counts.

    Args:
        id: the workflow's uid and a digest of the key.
        limit: Runs of the group that go on at once.
        policy: Queue, Reject or Replace.
        shown: the key, for people; empty without one.
    """

    id: str
    limit: int
    policy: str
    shown: str = ""


class _Input:
    """The variables of a key: the Run's input alone."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def activation(self, wanted: References) -> Mapping[str, Any]:
        return {"input": self._value}


@lru_cache(maxsize=256)
def _condition(text: str) -> Condition:
    return Condition(text, ("input",))


def group_of(closure: Closure, value: Any) -> Group | None:
    """The group of a Run with the input `value`; None if its target doesn't limit them.

    Raises:
        StepError: the key can't be worked out (type `expression`).
    """
    root = closure["objects"][closure["root"]]
    spec = root["spec"].get("concurrency") or {} if root["kind"] == "Workflow" else {}
    limit = spec.get("maxRuns")
    if limit is None:
        return None
    key, shown = b"", ""
    if spec.get("key"):
        found = _condition(spec["key"]).evaluate(_Input(value))
        key = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
        shown = found if isinstance(found, str) else key.decode()
    digest = sha256(key).hexdigest()[:16]
    return Group(f"{root['uid']}/{digest}", int(limit), spec.get("policy") or "Queue", shown[:200])


class Groups:
    """Which Runs go on, and which wait, by group."""

    def __init__(self) -> None:
        self._going: dict[str, OrderedDict[str, None]] = {}
        self._waiting: dict[str, OrderedDict[str, tuple[Group, int]]] = {}
        self._of: dict[str, str] = {}

    def enter(self, group_id: str, uid: str) -> None:
        """A Run goes on, whatever the limit: it has begun already."""
        self._going.setdefault(group_id, OrderedDict())[uid] = None
        self._of[uid] = group_id

    def admit(self, group: Group, uid: str, priority: int = 0) -> bool:
        """Whether a Run may begin; else it waits, behind those of its group with the same or a higher priority."""
        if len(self._going.get(group.id, ())) < group.limit and not self._waiting.get(group.id):
            self.enter(group.id, uid)
            return True
        self._waiting.setdefault(group.id, OrderedDict())[uid] = (group, priority)
        self._of[uid] = group.id
        return False

    def is_full(self, group: Group) -> bool:
        """Whether a further Run would have to wait."""
        return len(self._going.get(group.id, ())) >= group.limit or bool(self._waiting.get(group.id))

    def replaced(self, group: Group, uid: str) -> list[str]:
        """The Runs that have to end so that `uid`, which waits, can begin: the oldest of those before it."""
        queue = list(self._waiting.get(group.id, ()))
        waiting = queue[: queue.index(uid)] if uid in queue else queue
        going = list(self._going.get(group.id, ()))
        return [*going, *waiting][: max(0, len(going) + len(waiting) + 1 - group.limit)]

    def leave(self, uid: str) -> list[str]:
        """A Run has ended, or waits no more; returns those that may begin now, in order."""
        group_id = self._of.pop(uid, None)
        if group_id is None:
            return []
        going, waiting = self._going.get(group_id), self._waiting.get(group_id)
        if going is not None:
            going.pop(uid, None)
        if waiting is not None:
            waiting.pop(uid, None)
        admitted: list[str] = []
        while waiting:
            # Of equals the first one, which has waited longest.
            following = max(waiting, key=lambda other: waiting[other][1])
            group = waiting[following][0]
            if len(self._going.get(group_id, ())) >= group.limit:
                break
            del waiting[following]
            self.enter(group_id, following)
            admitted.append(following)
        if not self._going.get(group_id):
            self._going.pop(group_id, None)
        if not waiting:
            self._waiting.pop(group_id, None)
        return admitted

    def waits(self, uid: str) -> bool:
        """Whether a Run waits for another one to end."""
        return uid in self._waiting.get(self._of.get(uid, ""), ())


def refused(group: Group) -> StepError:
    """Why a Run beyond the limit is refused."""
    key = f" with the key {group.shown}" if group.shown else ""
    message = f"{group.limit} Runs{key} go on already, which concurrency.maxRuns allows, and the policy is Reject"
    return StepError("concurrency", message, retryable=False)
