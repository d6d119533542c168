"""Which declared controllers run, and how do their objects fare?

A controller is added to the manager when its Reconciler can be carried out, replaced when the Reconciler changes, which has
every object looked at again, and removed with it. Objects are counted as they change, not by going through all of them.
Decides nothing: that a Reconciler may be carried out is for its own controller to say.

Read next: `controllers/reconciler.py`, which does.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from kastra.api.meta import GROUP
from kastra.api.object import Object
from kastra.runtime.controller import Controller
from kastra.runtime.manager import Manager
from kastra.runtime.predicates import ready_changed
from kastra.runtime.reconcile import Request

from .cleanup import FINALIZER, OBJECT
from .passes import DeclaredReconciler, concerns, set_finalizer
from .plan import Plan
from .runs import LABEL, RUN

EVERY = 1.0
"""Seconds between two reports about the objects of one Reconciler."""


class Counts(NamedTuple):
    """Objects of a kind: all, those that are Ready, and those that are not; of the rest nothing was said yet."""

    objects: int
    ready: int
    failing: int


class Declared:
    """The declared controllers of a manager.

    Args:
        manager: gets the controllers.
        changed: called with a Reconciler's name when the counts of its objects have changed.
    """

    def __init__(self, manager: Manager, changed: Callable[[str], None]) -> None:
        self._manager = manager
        self._changed = changed
        self._running: dict[str, tuple[str, int, Plan]] = {}
        self._tallies: dict[str, _Tally] = {}
        self._reported: dict[str, float] = {}

    async def run(self, name: str, uid: str, generation: int, plan: Plan) -> bool:
        """Have the objects of a Reconciler reconciled by `plan`; whether that is news."""
        running = self._running.get(name)
        if running is not None and running[:2] == (uid, generation):
            return False
        await self.stop(name)
        reconciler = DeclaredReconciler(self._manager, name, plan, self._known)
        made = self._manager.controller(plan.qualified, reconciler, name=_controller(name), predicate=concerns)
        self._watch(made, name, plan)
        self._running[name] = (uid, generation, plan)
        self._tallies[name] = _Tally(self._manager, plan.qualified, lambda: self._changed(name))
        return True

    async def stop(self, name: str) -> None:
        """Reconcile the objects of a Reconciler no more; they stay as they are."""
        if self._running.pop(name, None) is None:
            return
        self._tallies.pop(name).close()
        self._reported.pop(name, None)
        await self._manager.remove(_controller(name))

    async def release(self, name: str) -> None:
        """Let go of the objects that are held for a clean-up which nobody will do now. Raises Conflict."""
        running = self._running.get(name)
        await self.stop(name)
        if running is None:
            return
        for obj in self._manager.cache.lister(running[2].qualified).list():
            if FINALIZER in obj.finalizers:
                await set_finalizer(self._manager, obj, present=False)

    def counts(self, name: str) -> Counts | None:
        """How the objects of a Reconciler fare; None if it isn't carried out."""
        tally = self._tallies.get(name)
        return tally.counts if tally is not None else None

    def may_report(self, name: str) -> float:
        """0 if the counts may be written now, which counts as done; else the seconds to wait."""
        now = self._manager.clock.monotonic()
        left = self._reported.get(name, now - EVERY) + EVERY - now
        if left > 0:
            return left
        self._reported[name] = now
        return 0.0

    def _watch(self, made: Controller, name: str, plan: Plan) -> None:
        for resource in plan.resources:
            made.owns(_qualified(resource.api_version, resource.kind))
        if plan.run is not None:
            made.owns(RUN, _ended)
            target, namespace = plan.run.name, plan.run.namespace
            lister = self._manager.cache.lister(plan.qualified)

            def waiting(obj: Object) -> Iterable[Request]:
                if obj.name != target or namespace not in ("", obj.namespace):
                    return ()
                return [Request(o.namespace, o.name) for o in lister.list(None if namespace else obj.namespace)]

            made.watches(f"{plan.run.kind}.{GROUP}", waiting, ready_changed)
        if plan.finalize is not None:
            made.watches(RUN, lambda run: _finalized_by(run, name), _ended)

    def _known(self) -> Sequence[str]:
        """Every kind of which this process has the objects: children of earlier templates are found among them too."""
        cache, scheme = self._manager.cache, self._manager.client.scheme
        return [r.group_resource for r in scheme if cache.find(r.group_resource) is not None]


class _Tally:
    """Counts objects by what their Ready condition says."""

    def __init__(self, manager: Manager, kind: str, changed: Callable[[], None]) -> None:
        self._informer = manager.cache.informer(kind)
        self._says: dict[str, str] = {}
        self._numbers = {"True": 0, "False": 0, "": 0}
        self._changed = changed
        self._informer.add_handler(self._handle)

    @property
    def counts(self) -> Counts:
        return Counts(len(self._says), self._numbers["True"], self._numbers["False"])

    def close(self) -> None:
        self._informer.remove_handler(self._handle)

    def _handle(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is None:
            return
        before = self._says.pop(obj.uid, None)
        after = None if new is None else _says(new)
        if before is not None:
            self._numbers[before] -= 1
        if after is not None:
            self._says[obj.uid] = after
            self._numbers[after] += 1
        if before != after:
            self._changed()


def _says(obj: Object) -> str:
    status = str((obj.condition("Ready") or {}).get("status", ""))
    return status if status in ("True", "False") else ""


def _ended(old: Object | None, new: Object | None) -> bool:
    return new is None or (new.is_condition_true("Complete") and (old is None or not old.is_condition_true("Complete")))


def _finalized_by(run: Object, name: str) -> Iterable[Request]:
    place = run.annotations.get(OBJECT)
    if place is None or run.labels.get(LABEL) != name:
        return ()
    namespace, _, obj = place.partition("/")
    return (Request(namespace, obj),)


def _controller(name: str) -> str:
    return f"reconciler/{name}"


def _qualified(api_version: str, kind: str) -> str:
    group = api_version.rpartition("/")[0]
    return f"{kind}.{group}" if group else kind
