"""What happens when an object is deleted: gone at once, or marked and waiting for its finalizers?

Deleting marks (deletionTimestamp, a new generation, the finalizers that the propagation policy stands for); the object
goes when its last finalizer does. Never touches dependents: the garbage collector follows ownerReferences, and whoever
put a finalizer there takes it away.

Source: apiserver/pkg/registry/rest/delete.go. Read next: `kastra.apiserver.crds`, whose kinds go with their definition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import anyio

from kastra.api.errors import NotFound, StatusError, conflict, not_found
from kastra.api.object import Object
from kastra.client.interface import PropagationPolicy
from kastra.clock import rfc3339
from kastra.store.interface import Entry, Key

from .admission import Attributes, Operation
from .call import Call
from .metadata import FOREGROUND, ORPHAN
from .served import Served
from .writing import ObjectWriter

_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete.

    Args:
        propagation_policy: what becomes of dependents; None keeps what the object's finalizers say, else Background.
        uid: delete only this very object.
        resource_version: delete only this very state.
    """

    propagation_policy: PropagationPolicy | None = None
    uid: str = ""
    resource_version: str = ""


class Deletion(NamedTuple):
    """The object as it was last seen, and whether it is gone."""

    object: Object
    gone: bool


class Deleter:
    """Deletes single objects and collections of them."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        self._storage = writer.storage

    async def delete(self, served: Served, key: Key, options: DeleteOptions, call: Call) -> Deletion:
        """Delete one object.

        Raises:
            NotFound: there is none.
            Conflict: a precondition does not hold.
            Forbidden: it must stay, or admission refused.
        """

        async def attempt() -> Deletion:
            entry = self._storage.get(key)
            if entry is None:
                raise not_found(served.resource.plural, served.resource.group, key.name)
            _check_preconditions(served, entry, options)
            served.strategy.check_delete(key.name)
            return await self._delete(served, entry, options, call)

        return await self._writer.retried(key, attempt)

    async def _delete(self, served: Served, entry: Entry, options: DeleteOptions, call: Call) -> Deletion:
        await served.prepare(entry)
        old = served.parsed(entry)
        attributes = Attributes(Operation.DELETE, served, entry.key.namespace, entry.key.name, None, old, call)
        await self._writer.admission.validate(attributes)
        finalizers = _finalizers(old["metadata"].get("finalizers") or [], options.propagation_policy)
        if not finalizers and not served.strategy.holds(old):
            return Deletion(await self._writer.remove(served, entry, old, call), gone=True)
        new = self._marked(served, old, finalizers)
        if new is None:
            return Deletion(served.object(entry), gone=False)
        stored = await self._writer.mark(served, entry, old, new, call)
        now_there = self._storage.get(entry.key)
        return Deletion(stored, gone=now_there is None or now_there.uid != entry.uid)

    def _marked(self, served: Served, old: Mapping[str, Any], finalizers: list[str]) -> dict[str, Any] | None:
        """The object marked for deletion; None if it is already marked just so."""
        before = old["metadata"]
        meta = {**before, "finalizers": finalizers}
        if not finalizers:
            del meta["finalizers"]
        new = {**old, "metadata": meta}
        if "deletionTimestamp" in before:
            return None if finalizers == (before.get("finalizers") or []) else new
        now = self._writer.clock.now()
        meta["deletionTimestamp"] = rfc3339(now)
        meta["deletionGracePeriodSeconds"] = 0
        if "generation" in meta:
            meta["generation"] += 1
        served.strategy.begin_deletion(new, now)
        return new

    async def delete_all(
        self, served: Served, keys: Sequence[Key], options: DeleteOptions, call: Call
    ) -> Sequence[Object]:
        """Delete many; what is gone already when its turn comes is left out of the result.

        Raises:
            StatusError: the first refusal, after all have been tried.
        """
        done: list[Deletion | None] = [None] * len(keys)
        refused: list[StatusError] = []

        async def one(index: int) -> None:
            try:
                done[index] = await self.delete(served, keys[index], options, call)
            except NotFound:
                pass  # deleted by somebody else meanwhile: that is what was asked for
            except StatusError as error:
                refused.append(error)

        for start in range(0, len(keys), _TOGETHER):
            async with anyio.create_task_group() as group:
                for index in range(start, min(start + _TOGETHER, len(keys))):
                    group.start_soon(one, index)
        if refused:
            raise refused[0]
        return [deletion.object for deletion in done if deletion is not None]


def _finalizers(present: Sequence[str], policy: PropagationPolicy | None) -> list[str]:
    kept = [name for name in present if name not in {ORPHAN, FOREGROUND}]
    if policy == "Orphan" or (policy is None and ORPHAN in present):
        kept.append(ORPHAN)
    if policy == "Foreground" or (policy is None and FOREGROUND in present):
        kept.append(FOREGROUND)
    return kept


def _check_preconditions(served: Served, entry: Entry, options: DeleteOptions) -> None:
    resource, name = served.resource, entry.key.name
    if options.uid and options.uid != entry.uid:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({entry.uid}). The object might "
            "have been deleted and then recreated"
        )
        raise conflict(resource.plural, resource.group, name, why)
    if options.resource_version and options.resource_version != str(entry.revision):
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion in "
            f"record ({entry.revision}). The object might have been modified"
        )
        raise conflict(resource.plural, resource.group, name, why)
