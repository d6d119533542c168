"""How does a CustomResourceDefinition become a kind that can be used at once, and what happens when it goes?

This is the strategy of CustomResourceDefinition with consequences: after a definition was committed, and before its
writer is answered, its versions are installed in the registry (scheme, compiled schema, admission); after it was
deleted, its objects are deleted first, then the kind disappears. Built-in Kastra kinds come the same way (`ensure`).

Never compiles a schema twice, and never serves a definition whose names clash with those of another in its group.

Source: apiextensions-apiserver (pkg/controller). Read next: `kastra.apiserver.crdvalidation`.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import orjson

from kastra.api.errors import Cause, Conflict, Expired, MethodNotAllowed, NotFound
from kastra.api.object import Object
from kastra.api.scheme import PrinterColumn, Resource, ScalePaths
from kastra.api.values import copy, equal
from kastra.client.interface import WriteOptions
from kastra.clock import rfc3339
from kastra.store.interface import Key

from .builtin import AGE, CUSTOM_RESOURCE_DEFINITION
from .call import SYSTEM, Call
from .crdstatus import CLEANUP, begin_termination, clash, complete, is_true
from .crdvalidation import definition_causes
from .deletion import DeleteOptions
from .registry import Registry
from .served import Converter, Served
from .strategy import Strategy
from .writing import ATTEMPTS, Raced

if TYPE_CHECKING:
    from kastra.schema.compiled import CompiledSchema

_GROUP_RESOURCE = CUSTOM_RESOURCE_DEFINITION.group_resource
_SPEC_HISTORY_GROUP = "mastra.ai"
_WITHOUT_HISTORY = frozenset({"Run", "Thread", "Approval"})
_COMPILED_LIMIT = 256
# By hash of the schema; shared by all servers of a process, since compiled schemas never change.
_compiled: "dict[bytes, CompiledSchema]" = {}


class CustomResourceStrategy(Strategy):
    """The strategy of one defined kind, in all of its versions."""

    def __init__(self, definitions: "CustomResourceDefinitions", name: str, group: str, kind: str) -> None:
        self._definitions = definitions
        self._name = name
        self.terminating = False
        # Runs pin generations of what they were made from; run-time kinds have no spec worth keeping.
        self.keeps_history = group == _SPEC_HISTORY_GROUP and kind not in _WITHOUT_HISTORY

    def check_create(self) -> None:
        """No new objects while the definition waits for the present ones to go."""
        if self.terminating:
            raise MethodNotAllowed("create not allowed while custom resource definition is terminating")

    async def written(self, new: Object, old: Mapping[str, Any] | None) -> None:
        """An object whose creation was under way when its definition went, goes too."""
        if old is None and self.terminating:
            await self._definitions.discard(self._name, new)

    async def removed(self, last: Object) -> None:
        """The last object of a definition that is being deleted takes it along."""
        if self.terminating:
            await self._definitions.finish(self._name)


class CustomResourceDefinitions(Strategy):
    """All definitions, and the kinds they make.

    Args:
        registry: where kinds are installed. The kind CustomResourceDefinition itself is installed at once.
    """

    status_writes_metadata = True

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._strategies: dict[str, CustomResourceStrategy] = {}
        # What is installed, by name of the definition: its spec, and the resources made of it.
        self._installed: dict[str, tuple[Mapping[str, Any], list[Resource]]] = {}
        self._accepted: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._rejected: set[str] = set()
        self._cleaning: set[str] = set()
        compile_ = partial(self.compiled, CUSTOM_RESOURCE_DEFINITION.schema or {})
        registry.install(Served(CUSTOM_RESOURCE_DEFINITION, self, compile_))

    def load(self) -> None:
        """Serve every definition in storage: called once at start, before anything else is asked of the registry."""
        found = [(orjson.loads(e.body), e.revision) for e in self._registry.storage.list(_GROUP_RESOURCE).entries]
        # Where names clash, those who had them first keep them.
        for definition, revision in sorted(
            found, key=lambda pair: not is_true(pair[0].get("status") or {}, "NamesAccepted")
        ):
            self._establish(definition, revision)

    async def resume(self) -> None:
        """Go on with the deletions that were under way when the last process ended."""
        for name, strategy in list(self._strategies.items()):
            if strategy.terminating:
                await self._clean(name)

    async def follow(self) -> None:
        """Serve the definitions as another process changes them, until cancelled: for storage open for reading only."""
        storage = self._registry.storage
        while True:
            present = storage.list(_GROUP_RESOURCE)
            for name in self._strategies.keys() - {entry.key.name for entry in present.entries}:
                self._forget(name)
            for entry in present.entries:
                self._establish(orjson.loads(entry.body), entry.revision)
            events = storage.watch(_GROUP_RESOURCE, since=present.revision)
            # A stream that ends, or begins too far back, has missed something: the present tells what.
            with suppress(Expired):
                async for event in events:
                    if event.entry is not None and event.type == "DELETED":
                        self._forget(event.entry.key.name)
                    elif event.entry is not None:
                        self._establish(orjson.loads(event.entry.body), event.revision)
            await events.aclose()
            await anyio.lowlevel.checkpoint()

    async def ensure(self, definitions: Iterable[Mapping[str, Any]]) -> None:
        """Create definitions, or bring them to the given spec, labels and annotations; others' changes to these go.

        Raises:
            Invalid: one of them is not valid, or changes what can't be changed.
        """
        resource = CUSTOM_RESOURCE_DEFINITION
        call = Call(SYSTEM, WriteOptions(field_manager="kastra", field_validation="Strict"))
        for definition in definitions:
            wanted: dict[str, Any] = orjson.loads(orjson.dumps(definition))
            name = wanted["metadata"]["name"]
            try:
                current = (await self._registry.get(resource, "", name)).to_dict()
            except NotFound:
                await self._registry.create(resource, "", wanted, call)
                continue
            for field in ("labels", "annotations"):
                if wanted["metadata"].get(field):
                    current["metadata"][field] = {**(current["metadata"].get(field) or {}), **wanted["metadata"][field]}
            current["spec"] = wanted["spec"]
            await self._registry.update(resource, "", name, current, call)

    def compiled(self, schema: Mapping[str, Any]) -> "CompiledSchema":
        """The compiled form of an openAPIV3Schema; each distinct one is compiled once. Raises SchemaError."""
        digest = hashlib.sha256(orjson.dumps(schema)).digest()
        found = _compiled.get(digest)
        if found is None:
            from kastra.schema.compiled import compile_schema

            found = compile_schema(schema)
            if len(_compiled) >= _COMPILED_LIMIT:
                del _compiled[next(iter(_compiled))]
            _compiled[digest] = found
        return found

    # As strategy of the kind CustomResourceDefinition

    def prepare_create(self, obj: dict[str, Any], now: datetime) -> None:
        """Fill the names that can be derived, and the status: accepted names, stored versions, conditions."""
        obj.pop("status", None)
        self._complete(obj, now)

    def prepare_update(self, obj: dict[str, Any], old: Mapping[str, Any], now: datetime) -> None:
        """As at creation; what is accepted already stays."""
        if "deletionTimestamp" not in obj["metadata"]:
            self._complete(obj, now)

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """Whether it can be served. One that is on its way out is left alone."""
        if "deletionTimestamp" in obj["metadata"]:
            return ()
        return definition_causes(obj, old, self._schema_causes)

    def begin_deletion(self, obj: dict[str, Any], now: datetime) -> None:
        """Held until the objects are gone."""
        begin_termination(obj, rfc3339(now))

    def holds(self, obj: Mapping[str, Any]) -> bool:
        """Never gone at once: deletion has to begin, so that the objects can go first."""
        return "deletionTimestamp" not in obj["metadata"]

    async def written(self, new: Object, old: Mapping[str, Any] | None) -> None:
        """Serve what was written."""
        self._establish(new.data, int(new.resource_version))
        if new.deleting:
            await self._clean(new.name)

    async def removed(self, last: Object) -> None:
        """The kind is gone; names it held are free for those that waited."""
        self._forget(last.name)
        for name in sorted(self._rejected):
            await self._reconsider(name)

    # Serving

    def _establish(self, definition: Mapping[str, Any], revision: int) -> None:
        name, spec, status = definition["metadata"]["name"], definition["spec"], definition.get("status") or {}
        strategy = self._strategies.get(name)
        if strategy is None:
            kind = spec["names"]["kind"]
            strategy = self._strategies[name] = CustomResourceStrategy(self, name, spec["group"], kind)
        strategy.terminating = "deletionTimestamp" in definition["metadata"]
        accepted = spec["names"]
        if clash(accepted, self._others(name, spec["group"])) is None:
            self._rejected.discard(name)
        else:
            self._rejected.add(name)
            accepted = status.get("acceptedNames") or {}
            if not accepted.get("kind"):
                self._uninstall(name)
                return
        self._accepted[name] = (spec["group"], accepted)
        served = {**spec, "names": accepted}
        if name in self._installed and equal(self._installed[name][0], served):
            return
        self._uninstall(name)
        resources = []
        converter = self._converter(spec)
        for version in spec["versions"]:
            if version.get("served"):
                schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
                resource = _resource(served, version, self._registry)
                self._registry.install(
                    Served(
                        resource,
                        strategy,
                        partial(self.compiled, schema),
                        # Bytes up to here may have been written under another schema; with several versions, any may.
                        fresh_after=revision if len(spec["versions"]) == 1 else sys.maxsize,
                        converter=converter,
                        deprecation=_deprecation(resource, version),
                    )
                )
                resources.append(resource)
        self._installed[name] = (served, resources)

    def _converter(self, spec: Mapping[str, Any]) -> Converter | None:
        conversion = spec.get("conversion") or {}
        if conversion.get("strategy") != "Webhook":
            return None
        from .conversion import WebhookConversion

        config, kind = conversion["webhook"]["clientConfig"], spec["names"]["kind"]
        return WebhookConversion(config, kind, lambda: self._registry.outbound)

    def _uninstall(self, name: str) -> None:
        _, resources = self._installed.pop(name, ({}, []))
        for resource in resources:
            self._registry.uninstall(resource)

    def _forget(self, name: str) -> None:
        self._uninstall(name)
        self._strategies.pop(name, None)
        self._accepted.pop(name, None)
        self._rejected.discard(name)

    # Deletion

    async def _clean(self, name: str) -> None:
        """Delete the objects of a definition that is being deleted, then the definition."""
        if name in self._cleaning:
            return
        resources = self._installed.get(name, ({}, []))[1]
        if resources:
            self._cleaning.add(name)
            try:
                # In the version in which they are stored, if it is served: that takes nobody's help.
                stored = [resource for resource in resources if resource.version == resource.storage_version]
                served = self._registry.served((stored or resources)[0])
                entries = self._registry.storage.list(served.group_resource).entries
                await self._registry.delete_keys(served, [entry.key for entry in entries], DeleteOptions(), Call())
            finally:
                self._cleaning.discard(name)
        await self.finish(name)

    async def discard(self, name: str, late: Object) -> None:
        """Remove an object that came too late, whatever holds it: nobody would ever see it."""
        storage = self._registry.storage
        entry = storage.get(Key(name, late.namespace, late.name))
        if entry is not None and entry.uid == late.uid:
            with suppress(Conflict, NotFound):  # somebody else has just deleted it
                await storage.delete(entry.key, entry.revision)
        await self.finish(name)

    async def finish(self, name: str) -> None:
        """Take the cleanup finalizer from a definition whose last object is gone."""
        registry = self._registry
        if name in self._cleaning or registry.storage.list(name).entries:
            return
        served = registry.served(CUSTOM_RESOURCE_DEFINITION)
        for _ in range(ATTEMPTS):
            entry = registry.storage.get(served.key("", name))
            old = served.parsed(entry) if entry is not None else {"metadata": {}}
            finalizers = old["metadata"].get("finalizers") or []
            if entry is None or CLEANUP not in finalizers:
                return
            new: dict[str, Any] = copy(old)
            new["metadata"]["finalizers"] = [finalizer for finalizer in finalizers if finalizer != CLEANUP]
            with suppress(Raced):
                if new["metadata"]["finalizers"]:
                    await registry.writer.mark(served, entry, old, new, Call())
                else:
                    await registry.writer.remove(served, entry, new, Call())
                return

    # Names

    def _complete(self, obj: dict[str, Any], now: datetime) -> None:
        complete(obj, self._others(obj["metadata"].get("name", ""), obj["spec"]["group"]), rfc3339(now))

    def _others(self, name: str, group: str) -> list[Mapping[str, Any]]:
        """The names of all other kinds in a group, built-in ones included."""
        others = [names for key, (in_group, names) in self._accepted.items() if in_group == group and key != name]
        others += [
            {
                "plural": r.plural,
                "singular": r.singular,
                "shortNames": r.short_names,
                "kind": r.kind,
                "listKind": r.list_kind,
            }
            for r in self._registry.scheme
            if r.builtin and r.group == group
        ]
        return others

    async def _reconsider(self, name: str) -> None:
        def again(data: dict[str, Any]) -> dict[str, Any]:
            # Preparing the update looks at the names anew.
            new: dict[str, Any] = copy(data)
            return new

        try:
            await self._registry.change(CUSTOM_RESOURCE_DEFINITION, "", name, again, Call(), "")
        except NotFound:
            self._rejected.discard(name)

    def _schema_causes(self, schema: Mapping[str, Any]) -> Iterable[Cause]:
        from kastra.schema.compiled import SchemaError

        try:
            self.compiled(schema)
        except SchemaError as error:
            return error.causes
        return ()


def _resource(spec: Mapping[str, Any], version: Mapping[str, Any], registry: Registry) -> Resource:
    names, subresources = spec["names"], version.get("subresources") or {}
    scale = subresources.get("scale")
    group_resource = f"{names['plural']}.{spec['group']}"
    return Resource(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        singular=names["singular"],
        list_kind=names["listKind"],
        namespaced=spec["scope"] == "Namespaced",
        storage_version=next(v["name"] for v in spec["versions"] if v.get("storage")),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        has_status="status" in subresources,
        scale=ScalePaths(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", ""))
        if scale
        else None,
        subresources=tuple(sub.name for sub in registry.connectors.of(group_resource)),
        columns=tuple(_column(column) for column in version.get("additionalPrinterColumns") or ()) or (AGE,),
        selectable_fields=tuple(f["jsonPath"].removeprefix(".") for f in version.get("selectableFields") or ()),
        schema=(version.get("schema") or {}).get("openAPIV3Schema"),
    )


def _column(column: Mapping[str, Any]) -> PrinterColumn:
    return PrinterColumn(
        column["name"],
        column["type"],
        column["jsonPath"],
        column.get("description", ""),
        column.get("format", ""),
        column.get("priority", 0),
    )


def _deprecation(resource: Resource, version: Mapping[str, Any]) -> str:
    if not version.get("deprecated"):
        return ""
    return version.get("deprecationWarning") or f"{resource.api_version} {resource.kind} is deprecated"
