"""Folders of manifests become objects: checked as a whole, then sent in order by server-side apply.

All or nothing for what can be checked beforehand: if any file is invalid nothing is sent (`keep_going` sends the valid
rest). After that a refusal by the server concerns its object alone. Namespaces that a manifest names and nobody declared
are created. What starts work by itself is created suspended unless asked otherwise, because applying a folder must never
start paid work (`kastra.app.holding`).

Works on any `Client`, so the same code serves the embedded store and a remote server. Read next: `kastra.app.applyset`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any, Literal

import anyio

from kastra.api.errors import Conflict, Invalid, NotFound, StatusError
from kastra.api.meta import DEFAULT_NAMESPACE, ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client, WriteOptions
from kastra.manifest.loader import Loaded, Manifest
from kastra.manifest.problem import Problem

from .holding import HOLD_MANAGER, held, hold_alone, is_held, nothing_of, starts_work, unheld
from .validation import Validator, suggest

FIELD_MANAGER = "kastra"
_AT_ONCE = 64
"""Objects of one rank sent together, so that their commits share a disk write."""

DryRun = Literal["none", "client", "server"]
Verb = Literal["created", "configured", "unchanged", "pruned"]


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """How to apply.

    Args:
        namespace: for manifests that name none.
        dry_run: `client` stops after the checks, `server` lets the server check and stores nothing.
        keep_going: send the valid objects although others are invalid.
        force: take over fields that another manager owns.
        run: start the Runs and schedules among the manifests instead of creating them suspended.
        field_manager: under which ownership is recorded.
        labels: added to every object (an apply-set's membership).
    """

    namespace: str = DEFAULT_NAMESPACE
    dry_run: DryRun = "none"
    keep_going: bool = False
    force: bool = False
    run: bool = False
    field_manager: str = FIELD_MANAGER
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one object."""

    ref: ObjectRef
    verb: Verb
    object: Object | None = None


@dataclass(slots=True)
class ApplyReport:
    """What became of a folder.

    Args:
        applied: in the order sent, with the namespaces created on the way.
        problems: errors and warnings with their places.
        not_applied: how many objects were not stored because of errors.
    """

    applied: list[Applied] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    not_applied: int = 0

    @property
    def ok(self) -> bool:
        """Whether every object is stored."""
        return not any(problem.severity == "error" for problem in self.problems)


async def apply(
    client: Client,
    loaded: Loaded,
    validator: Validator,
    options: ApplyOptions,
    pause: Callable[[], Awaitable[object]] | None = None,
) -> ApplyReport:
    """Check and send the manifests of `loaded`.

    Args:
        pause: awaited after the objects of each kind are sent, before those that may refer to them.
    """
    errors = await validator.check_in_turns(loaded.manifests, options.namespace)
    report = ApplyReport(problems=[*loaded.problems, *chain.from_iterable(errors)])
    if not report.ok and not options.keep_going:
        report.not_applied = len(loaded.manifests)
        return report
    manifests = [manifest for manifest, found in zip(loaded.manifests, errors, strict=True) if not found]
    report.not_applied = len(loaded.manifests) - len(manifests)
    sender = _Sender(client, options, report)
    if options.dry_run == "client":
        await sender.compare(manifests)
        return report
    await sender.create_namespaces(manifests)
    for _, same_kind in groupby(manifests, key=lambda manifest: manifest.object["kind"]):
        await sender.send(list(same_kind))
        if pause is not None:
            await pause()
    return report


class _Sender:
    """Sends manifests and records what became of them."""

    def __init__(self, client: Client, options: ApplyOptions, report: ApplyReport) -> None:
        self._client = client
        self._options = options
        self._report = report
        self._dry_run = options.dry_run == "server"
        self._write = WriteOptions(
            dry_run=self._dry_run, field_manager=options.field_manager, field_validation="Strict"
        )
        self._hold = WriteOptions(dry_run=self._dry_run, field_manager=HOLD_MANAGER)
        self._missing_namespaces: set[str] = set()

    async def create_namespaces(self, manifests: Iterable[Manifest]) -> None:
        """Create what manifests name, nobody declares and doesn't exist."""
        declared, named = set(), set()
        for manifest in manifests:
            if manifest.object["kind"] == "Namespace":
                declared.add(manifest.object["metadata"].get("name"))
            named.add(self._namespace(manifest.object))
        for name in sorted(filter(None, named)):
            try:
                await self._client.get(ObjectRef("namespaces", name))
            except NotFound:
                self._missing_namespaces.add(name)
                if name in declared:
                    continue
                namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                created = await self._client.apply(
                    namespace, WriteOptions(dry_run=self._dry_run, field_manager=self._options.field_manager)
                )
                self._report.applied.append(Applied(ObjectRef("Namespace", name), "created", created))

    async def send(self, manifests: Sequence[Manifest]) -> None:
        """Send objects of one kind, many at once; results are reported in their order."""
        outcomes: list[Applied | Problem | None] = [None] * len(manifests)
        waiting = iter(enumerate(manifests))

        async def work() -> None:
            for index, manifest in waiting:
                try:
                    outcomes[index] = await self._apply(self._prepared(manifest))
                except StatusError as error:
                    outcomes[index] = self._refusal(manifest, error)

        async with anyio.create_task_group() as group:
            for _ in range(min(_AT_ONCE, len(manifests))):
                group.start_soon(work)
        for outcome in outcomes:
            if isinstance(outcome, Applied):
                self._report.applied.append(outcome)
            elif outcome is not None:
                self._report.problems.append(outcome)
                self._report.not_applied += 1

    async def compare(self, manifests: Iterable[Manifest]) -> None:
        """Say what would be created or exists, without sending anything."""
        for manifest in manifests:
            ref = _ref(self._prepared(manifest))
            try:
                existing = await self._client.get(ref)
            except NotFound:
                self._report.applied.append(Applied(ref, "created"))
            else:
                self._report.applied.append(Applied(ref, "configured", existing))

    def _namespace(self, obj: Mapping[str, Any]) -> str:
        """Where an object goes; empty for one of a cluster-scoped kind."""
        resource = self._client.scheme.for_kind(obj["apiVersion"], obj["kind"])
        if resource is None or resource.namespaced:
            return obj["metadata"].get("namespace") or self._options.namespace
        return ""

    def _prepared(self, manifest: Manifest) -> dict[str, Any]:
        """The object as it is sent: namespace filled in, status left out, labels added."""
        body = {key: value for key, value in manifest.object.items() if key != "status"}
        metadata = dict(body["metadata"])
        namespace = self._namespace(body)
        if namespace:
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        if self._options.labels:
            metadata["labels"] = {**(metadata.get("labels") or {}), **self._options.labels}
        body["metadata"] = metadata
        return body

    async def _apply(self, body: dict[str, Any]) -> Applied:
        options = self._write
        if not body["metadata"].get("name"):
            created = await self._client.create(body, options)
            return Applied(created.ref, "created", created)
        ref = _ref(body)
        if self._dry_run and body["metadata"].get("namespace") in self._missing_namespaces:
            return Applied(ref, "created")
        try:
            before = await self._client.get(ref)
        except NotFound:
            before = None
        hold = starts_work(body) and not self._options.run
        if hold:
            body = await self._held(body, before)
        elif starts_work(body) and before is not None and is_held(before):
            await self._release(body)
        after = await self._client.apply(body, options, force=self._options.force)
        if hold and before is None and not self._dry_run:
            # What holds the object owns only that, or every later change would be a conflict with it.
            after = await self._client.apply(hold_alone(body), self._hold)
        if before is None:
            return Applied(ref, "created", after)
        changed = before.data != after.data if self._dry_run else before.resource_version != after.resource_version
        return Applied(ref, "configured" if changed else "unchanged", after)

    async def _held(self, body: dict[str, Any], before: Object | None) -> dict[str, Any]:
        """The object without a word on whether it is held; on creation, held by a manager of its own.

        Later applies of the same file don't mention it, so they neither release the object nor hold it again.
        """
        if before is None:
            await self._client.apply(held(body), self._hold)
        return unheld(body)

    async def _release(self, body: dict[str, Any]) -> None:
        """Take back what holds the object, if it is that which an earlier apply did; who else suspended it isn't overruled."""
        await self._client.apply(nothing_of(body), self._hold)

    def _refusal(self, manifest: Manifest, error: StatusError) -> Problem:
        resource = self._client.scheme.for_kind(manifest.object["apiVersion"], manifest.object["kind"])
        if isinstance(error, Invalid) and error.causes:
            cause = error.causes[0]
            schema = resource.schema if resource is not None else None
            return manifest.problem(cause, suggestion=suggest(cause, manifest.object, schema))
        place, _ = manifest.positions.find(("metadata", "name"))
        hint = "; --force-conflicts takes the fields over" if isinstance(error, Conflict) and error.causes else ""
        return Problem("error", manifest.file, place.key, "", f"{error.message}{hint}")


def _ref(body: Mapping[str, Any]) -> ObjectRef:
    group = body["apiVersion"].rpartition("/")[0]
    kind = f"{body['kind']}.{group}" if group else body["kind"]
    return ObjectRef(kind, body["metadata"].get("name", ""), body["metadata"].get("namespace", ""))
