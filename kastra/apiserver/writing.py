"""One write of one object: prepare, admit, note who owns what, compare, commit.

Everything that ends in storage passes here: plain objects come in, prepared by a verb, and come out as stored. A
change is made again only by `retried`, which is handed how. Never looks up anything but namespaces.

Source: the generic Store of apiserver/pkg/registry/generic. Read next: `kastra.apiserver.deletion`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio
import orjson

from kastra.api import managedfields
from kastra.api.errors import (
    AlreadyExists,
    BadRequest,
    Cause,
    Conflict,
    Forbidden,
    NotFound,
    RequestEntityTooLarge,
    already_exists,
    conflict,
    not_found,
)
from kastra.api.names import generate_name
from kastra.api.object import Object, encode_stored
from kastra.api.values import equal
from kastra.clock import Clock, rfc3339
from kastra.store.interface import Draft, Entry, Key, SpecRevision, Storage

from . import metadata
from .admission import AdmissionChain, Attributes, Operation
from .call import Call
from .served import Served

SIZE_LIMIT = 1536 * 1024
ATTEMPTS = 10
_NAME_ATTEMPTS = 8
_TURN = 1.0
"""Seconds that a turn lasts at most."""
_VOLATILE = frozenset({"resourceVersion", "managedFields"})


_T = TypeVar("_T")


class Raced(Conflict):
    """Somebody wrote between reading and writing. Making the change again, on the newer state, may succeed."""


class ObjectWriter:
    """Creates, changes and removes single objects."""

    def __init__(self, storage: Storage, admission: AdmissionChain, clock: Clock) -> None:
        self.storage = storage
        self.admission = admission
        self.clock = clock
        self._turns: WeakValueDictionary[Key, anyio.Semaphore] = WeakValueDictionary()

    async def retried(self, key: Key, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Make a change that reads, decides and writes; again from the start if somebody else was faster.

        Those who lost once take turns, and who comes while they do waits for one too, so that any number of them gets
        through. A change that holds for one state only (it carries a resourceVersion) fails by itself the second time.

        Args:
            key: of the object.
            attempt: reads the object anew each time.

        Raises:
            Conflict: others were faster `ATTEMPTS` times.
        """
        if key not in self._turns:
            try:
                return await attempt()
            except Raced:
                pass  # those who lost take turns
        for _ in range(ATTEMPTS - 1):
            async with self._turn(key):
                # The store may tell the loser before it shows what the winner wrote; then this fails once more.
                with suppress(Raced):
                    return await attempt()
        async with self._turn(key):
            return await attempt()

    @asynccontextmanager
    async def _turn(self, key: Key) -> AsyncIterator[None]:
        """Wait for the others who want to change an object. A turn ends after `_TURN` seconds even if its holder isn't done:
        turns are for fairness only, and who waits for a webhook must not make all others wait.
        """
        line = self._turns.setdefault(key, anyio.Semaphore(1))
        await line.acquire()
        held = True

        def give_away() -> None:
            nonlocal held
            if held:
                held = False
                line.release()

        timer = asyncio.get_running_loop().call_later(_TURN, give_away)
        try:
            yield
        finally:
            timer.cancel()
            give_away()

    async def create(
        self,
        served: Served,
        namespace: str,
        obj: dict[str, Any],
        call: Call,
        *,
        tracked: bool = False,
        unknown: Sequence[str] = (),
    ) -> Object:
        """Store a new object. `obj` is the writer's own from here on.

        Args:
            tracked: managedFields are complete already (server-side apply).
            unknown: paths of unknown fields that were dropped before.

        Raises:
            AlreadyExists, BadRequest, Forbidden, Invalid, NotFound (the namespace), RequestEntityTooLarge.
        """
        resource, strategy, now = served.resource, served.strategy, self.clock.now()
        metadata.check_type(obj, resource)
        unknown = [*unknown, *metadata.normalise(obj, resource)]
        metadata.set_namespace(obj, resource, namespace)
        self._check_namespace(served, namespace, obj)
        strategy.check_create()
        metadata.prepare_create(obj, resource, now)
        meta = obj["metadata"]
        prefix = meta.get("generateName", "") if not meta.get("name") else ""
        if prefix:
            meta["name"] = generate_name(prefix)
        attributes = Attributes(
            Operation.CREATE, served, namespace, meta.get("name", ""), obj, None, call, unknown=unknown
        )
        obj = await self._admit(
            attributes,
            narrow=lambda mutated: _without_status(mutated) if resource.has_status else mutated,
            examine=lambda new: metadata.create_causes(new, resource.kind if resource.builtin else "", call.warnings),
            prepare=lambda admitted: strategy.prepare_create(admitted, now),
        )
        meta = obj["metadata"]
        if not tracked:
            _note_owner(obj, None, served, call, now, "")
        for attempt in range(_NAME_ATTEMPTS):
            if prefix and attempt:
                meta["name"] = generate_name(prefix)
            try:
                return await self._store_new(served, obj, call, now)
            except AlreadyExists:
                if not prefix or attempt == _NAME_ATTEMPTS - 1:
                    raise already_exists(resource.plural, resource.group, meta["name"]) from None
        raise AssertionError("unreachable")

    async def _store_new(self, served: Served, obj: dict[str, Any], call: Call, now: datetime) -> Object:
        meta = obj["metadata"]
        key = served.key(meta.get("namespace", ""), meta["name"])
        draft = await self._draft(served, obj, call, now, new_spec=True)
        if call.options.dry_run:
            if self.storage.get(key) is not None:
                raise already_exists(served.resource.plural, served.resource.group, meta["name"])
            return Object.of(obj)
        entry = await self.storage.create(key, draft)
        await served.prepare(entry)
        stored = served.object(entry)
        await served.strategy.written(stored, None)
        return stored

    async def change(
        self,
        served: Served,
        entry: Entry,
        old: dict[str, Any],
        new: dict[str, Any],
        call: Call,
        *,
        subresource: str = "",
        tracked: bool = False,
        unknown: Sequence[str] = (),
    ) -> Object:
        """Replace the object at `entry`; nothing is written when nothing changed.

        Args:
            old: the entry parsed, never to be changed.
            new: what it shall be; may share parts with `old`.
            subresource: through which the change came; limits what takes effect.
            tracked: managedFields are complete already (server-side apply).
            unknown: paths of unknown fields that were dropped before.

        Raises:
            Raced: the object changed after `entry`.
            Conflict: the uid is another's.
            BadRequest, Invalid, Forbidden, RequestEntityTooLarge.
        """
        resource, strategy, now = served.resource, served.strategy, self.clock.now()
        metadata.check_type(new, resource)
        name = entry.key.name
        same_metadata = new.get("metadata") is old["metadata"]
        if same_metadata:
            # Nothing of it is to change, so that there is nothing to look at.
            new = {**new, "metadata": {**old["metadata"]}}
            found = [*unknown]
        else:
            found = [*unknown, *metadata.normalise(new, resource)]
            _check_address(new, entry.key)
            metadata.prepare_update(new, old, resource)
        new = _narrowed(new, old, served, subresource)
        attributes = Attributes(
            Operation.UPDATE, served, entry.key.namespace, name, new, old, call, subresource, unknown=found
        )

        def examine(changed: Mapping[str, Any]) -> Sequence[Cause]:
            if same_metadata and not attributes.mutated:
                return ()
            return metadata.update_causes(changed, old, call.warnings)

        new = await self._admit(
            attributes,
            narrow=lambda mutated: _narrowed(mutated, old, served, subresource),
            examine=examine,
            prepare=lambda admitted: None if subresource else strategy.prepare_update(admitted, old, now),
        )
        if not tracked:
            _note_owner(new, old, served, call, now, subresource)
        if _unchanged(new, old):
            return served.object(entry)
        new_generation = metadata.set_generation(new, old)
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers") and not strategy.holds(new):
            return await self.remove(served, entry, new, call)
        draft = await self._draft(served, new, call, now, new_spec=new_generation)
        if call.options.dry_run:
            return _as_dry_run(new, entry)
        return await self._store_changed(served, entry, draft, old)

    async def mark(
        self, served: Served, entry: Entry, old: Mapping[str, Any], new: dict[str, Any], call: Call
    ) -> Object:
        """Store what the server itself did to an object (deletion marks), without admission or ownership."""
        new["metadata"].pop("resourceVersion", None)
        draft = await self._draft(served, new, call, self.clock.now(), new_spec=False)
        if call.options.dry_run:
            return _as_dry_run(new, entry)
        return await self._store_changed(served, entry, draft, old)

    async def _store_changed(self, served: Served, entry: Entry, draft: Draft, old: Mapping[str, Any]) -> Object:
        try:
            changed = await self.storage.update(entry.key, draft, entry.revision)
        except Conflict:
            raise _raced(served, entry.key.name) from None
        except NotFound:
            raise not_found(served.resource.plural, served.resource.group, entry.key.name) from None
        await served.prepare(changed)
        stored = served.object(changed)
        await served.strategy.written(stored, old)
        return stored

    async def remove(self, served: Served, entry: Entry, last: dict[str, Any], call: Call) -> Object:
        """Take an object out of storage; returns its last state.

        Raises:
            Raced: it changed after `entry`.
            NotFound: it is gone already.
        """
        resource = served.resource
        last["metadata"].pop("resourceVersion", None)
        if call.options.dry_run:
            return _as_dry_run(last, entry)
        try:
            gone = await self.storage.delete(entry.key, entry.revision, await served.encode(last))
        except Conflict:
            raise _raced(served, entry.key.name) from None
        except NotFound:
            raise not_found(resource.plural, resource.group, entry.key.name) from None
        final = Object(encode_stored(last), gone.revision)
        await served.strategy.removed(final)
        return final

    async def _admit(
        self,
        attributes: Attributes,
        *,
        narrow: Callable[[dict[str, Any]], dict[str, Any]],
        examine: Callable[[dict[str, Any]], Sequence[Cause]],
        prepare: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Have an object admitted.

        Args:
            narrow: undoes what a mutating hook changed and a write of this kind can't change.
            examine: says what is wrong with the metadata.
            prepare: the strategy's own changes, for an object that its schema accepts.
        """
        if attributes.served.deprecation:
            attributes.call.warnings.append(attributes.served.deprecation)
        await self.admission.mutate(attributes)
        obj = attributes.object
        assert obj is not None
        if attributes.mutated:
            obj = attributes.object = narrow(obj)
        well_formed = not attributes.causes
        attributes.causes[:0] = examine(obj)
        if well_formed:
            # Strategies rely on the types that the schema has just confirmed.
            prepare(obj)
            attributes.causes += attributes.served.strategy.validate(obj, attributes.old_object)
        await self.admission.validate(attributes)
        return obj

    def _check_namespace(self, served: Served, namespace: str, obj: Mapping[str, Any]) -> None:
        """A new object needs a namespace that is there to stay."""
        if not served.resource.namespaced:
            return
        entry = self.storage.get(Key("namespaces", "", namespace))
        if entry is None:
            raise not_found("namespaces", "", namespace)
        # Parsing each namespace for each create would cost more than everything else here.
        if b'"deletionTimestamp"' in entry.body and "deletionTimestamp" in orjson.loads(entry.body)["metadata"]:
            resource, name = served.resource, obj["metadata"].get("name", "")
            message = (
                f'{resource.group_resource} "{name}" is forbidden: unable to create new content in namespace {namespace} '
                "because it is being terminated"
            )
            cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            raise Forbidden(message, name=name, group=resource.group, kind=resource.plural, causes=(cause,))

    async def _draft(
        self, served: Served, obj: Mapping[str, Any], call: Call, now: datetime, *, new_spec: bool
    ) -> Draft:
        body = await served.encode(obj)
        if len(body) > SIZE_LIMIT:
            raise RequestEntityTooLarge(f"the object takes {len(body)} bytes as JSON; the limit is {SIZE_LIMIT}")
        meta = obj["metadata"]
        owners = meta.get("ownerReferences")
        return Draft(
            body,
            meta["uid"],
            meta.get("labels") or {},
            tuple(owner["uid"] for owner in owners) if owners else (),
            served.strategy.expires_at(now),
            _history(obj, call) if new_spec and served.strategy.keeps_history else None,
        )


def _without_status(obj: dict[str, Any]) -> dict[str, Any]:
    obj.pop("status", None)
    return obj


def _narrowed(new: dict[str, Any], old: dict[str, Any], served: Served, subresource: str) -> dict[str, Any]:
    """Only what a write through this subresource, or through none, can change."""
    if subresource == "status":
        new = metadata.only_status(new, old, with_metadata=served.strategy.status_writes_metadata)
    elif subresource == "finalize":
        spec = new.get("spec") or {}
        if not isinstance(spec, dict):
            raise BadRequest("spec must be an object")
        finalizers = spec.get("finalizers") or []
        new = {**old, "metadata": dict(old["metadata"]), "spec": {**(old.get("spec") or {}), "finalizers": finalizers}}
    elif served.resource.has_status:
        metadata.keep_status(new, old)
    new["metadata"].pop("resourceVersion", None)
    return new


def _raced(served: Served, name: str) -> Raced:
    error = conflict(served.resource.plural, served.resource.group, name)
    return Raced(error.message, name=error.name, group=error.group, kind=error.kind)


def _note_owner(
    new: dict[str, Any], old: Mapping[str, Any] | None, served: Served, call: Call, now: datetime, subresource: str
) -> None:
    entries = managedfields.track_update(
        old,
        new,
        manager=call.manager,
        topology=served.topology,
        now=rfc3339(now),
        api_version=served.resource.api_version,
        subresource=subresource,
        has_status=served.resource.has_status,
    )
    if entries:
        new["metadata"]["managedFields"] = entries
    else:
        new["metadata"].pop("managedFields", None)


def _unchanged(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether nothing but the resourceVersion and the times of managedFields differ."""
    if new.keys() != old.keys() or not all(equal(new[key], old[key]) for key in new if key != "metadata"):
        return False
    metas = [{k: v for k, v in obj["metadata"].items() if k not in _VOLATILE} for obj in (new, old)]
    return equal(*metas) and _owners(new) == _owners(old)


def _owners(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = obj["metadata"].get("managedFields") or ()
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


def _check_address(obj: dict[str, Any], key: Key) -> None:
    meta = obj["metadata"]
    name = meta.setdefault("name", key.name)
    if name != key.name:
        raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({key.name})")
    namespace = meta.get("namespace", key.namespace)
    if key.namespace and namespace != key.namespace:
        raise BadRequest(
            f"the namespace of the object ({namespace}) does not match the namespace on the URL ({key.namespace})"
        )


def _as_dry_run(obj: dict[str, Any], entry: Entry) -> Object:
    return Object.of({**obj, "metadata": {**obj["metadata"], "resourceVersion": str(entry.revision)}})


def _history(obj: Mapping[str, Any], call: Call) -> SpecRevision | None:
    spec = obj.get("spec")
    if spec is None:
        return None
    body = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(body).hexdigest()
    return SpecRevision(obj["metadata"].get("generation", 0), digest, body, call.user.name)
