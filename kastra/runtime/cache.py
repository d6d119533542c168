"""The informers of a manager, one per kind, and the knowledge whether they are up to date.

Every controller that needs a kind shares its informer. Writes of this process pass through `writer`, which hands each
answer to the informer at once, so that a reconcile reads what the previous one wrote, and which remembers how far the
informers must come before one can say that nothing is left to do. Never writes anything by itself.

Source: controller-runtime's pkg/cache. Read next: `kastra.runtime.informer`.
"""

from collections.abc import Callable, Iterable

import anyio
from anyio.abc import TaskGroup

from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client
from kastra.clock import Clock

from .indexer import Lister, key_and_version
from .informer import Informer, State

_CRD = "customresourcedefinitions.apiextensions.k8s.io"


class Cache:
    """Informers by kind.

    Args:
        client: where objects come from.
        clock: for the informers' pauses.
        namespace: restricts namespaced kinds to one namespace; None for all.
        on_progress: called after each change in any informer.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        namespace: str | None = None,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._on_progress = on_progress
        self._informers: dict[str, Informer] = {}
        # Only a hint, so nobody waits for it: these may not be readable to this process.
        self._definitions = Informer(client, _CRD, clock, hint=True)
        self._definitions.add_handler(self._on_definition)
        self._aliases: dict[str, str] = {}
        self._generation = -1
        self._tasks: TaskGroup | None = None
        self._written: dict[Informer, int] = {}
        self._deleted: dict[Informer, dict[tuple[str, str], str]] = {}

    def key(self, kind: str) -> str:
        """What `kind` is called whatever way it is written: `agents.mastra.ai`; as it stands while it is unknown."""
        try:
            return self._client.scheme.find(kind).group_resource
        except NotFound:
            return kind.lower()

    def namespaced(self, kind: str) -> bool:
        """Whether objects of the kind live in namespaces; taken to be so while it is unknown."""
        try:
            return self._client.scheme.find(kind).namespaced
        except NotFound:
            return True

    def _served(self, kind: str) -> bool:
        try:
            self._client.scheme.find(kind)
        except NotFound:
            return False
        return True

    def informer(self, kind: str) -> Informer:
        """The informer of a kind, made (and started, if the cache runs) when it is first asked for."""
        found = self.find(kind)
        if found is None:
            found = self._informers[self.key(kind)] = self._make(kind)
        return found

    def lister(self, kind: str) -> Lister:
        """The cache of a kind, to be read."""
        return self.informer(kind).lister

    def find(self, kind: str) -> Informer | None:
        """The informer of a kind if somebody has asked for it; makes none."""
        if self._generation != self._client.scheme.generation:
            self._rename()
        key = self._aliases.get(kind)
        if key is None:
            key = self._aliases[kind] = self.key(kind)
        return self._informers.get(key)

    def informers(self) -> Iterable[Informer]:
        """All informers."""
        return tuple(self._informers.values())

    def start(self, tasks: TaskGroup) -> None:
        """Run all informers, present and future ones, in `tasks`."""
        self._tasks = tasks
        for informer in self._informers.values():
            tasks.start_soon(informer.run, name=f"informer {informer.kind}")
        tasks.start_soon(self._definitions.run, name="informer of definitions")

    async def wait_synced(self) -> None:
        """Return once every informer has synced."""
        async with anyio.create_task_group() as tasks:
            for informer in self.informers():
                tasks.start_soon(informer.wait_synced)

    def observe_write(self, obj: Object) -> None:
        """An object was written by this process (or by whoever wants to be waited for)."""
        informer = self.find(obj.qualified_kind)
        if informer is None:
            return
        key, version = key_and_version(obj)
        if not informer.covers(key[0]):
            return
        if version[1] > self._written.get(informer, 0):
            self._written[informer] = version[1]
        informer.observe(obj, (key, version))

    def observe_delete(self, ref: ObjectRef) -> None:
        """An object was deleted by this process and is gone from the server."""
        informer = self.find(ref.kind)
        known = informer.lister.get(ref.namespace, ref.name) if informer is not None else None
        if informer is not None and known is not None:
            self._deleted.setdefault(informer, {})[(ref.namespace, ref.name)] = known.uid

    def caught_up(self) -> bool:
        """Whether every informer has synced and seen all that was handed to `observe_write` and `observe_delete`."""
        if not all(informer.has_synced for informer in self._informers.values()):
            return False
        for informer, revision in tuple(self._written.items()):
            if not informer.reached(revision):
                if informer.state is not State.ABSENT:
                    return False
                if self._served(informer.kind):
                    informer.poke()
                    return False
            del self._written[informer]
        for informer, gone in tuple(self._deleted.items()):
            for (namespace, name), uid in gone.items():
                known = informer.lister.get(namespace, name)
                if known is not None and known.uid == uid:
                    return False
            del self._deleted[informer]
        return True

    def _rename(self) -> None:
        # Kinds have come or gone: names that meant nothing may now mean a kind, and informers are found by its proper name.
        renamed: dict[str, Informer] = {}
        for key, informer in self._informers.items():
            proper = self.key(informer.kind)
            renamed[key if proper in renamed else proper] = informer
        self._informers, self._aliases, self._generation = renamed, {}, self._client.scheme.generation

    def _make(self, kind: str) -> Informer:
        informer = Informer(
            self._client,
            kind,
            self._clock,
            namespace=self._namespace if self.namespaced(kind) else None,
            on_progress=self._on_progress,
        )
        if self._tasks is not None:
            self._tasks.start_soon(informer.run, name=f"informer {kind}")
        return informer

    def _on_definition(self, old: Object | None, new: Object | None) -> None:
        # A kind that wasn't served may be now.
        for informer in self._informers.values():
            informer.poke()
