"""Threads over the API: found or made by name for whoever goes on with them, and read, searched and copied below their objects.

    messages   GET     a record a message, after `since`, at most 1,000 at once
    search     POST    {query, limit?}: a record a message that holds every word
    clone      POST    {name, resourceId?, title?}: a new Thread with the same messages

Read next: `kastra.memory.threads`.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kastra.api.errors import AlreadyExists, BadRequest, Conflict, Invalid, NotFound
from kastra.api.meta import API_VERSION, GROUP, ObjectRef
from kastra.api.object import Object
from kastra.apiserver.subresources import ConnectRequest
from kastra.client.interface import Client, WriteOptions
from kastra.memory.interface import ThreadDirectory, ThreadKey, ThreadRefused, thread_key
from kastra.sql.driver import MEMORY, Rows
from kastra.sql.interface import Operation
from kastra.store.objects import ObjectStore

from .tool_callers import caller

if TYPE_CHECKING:
    from kastra.clock import Clock
    from kastra.memory.threads import Threads

KIND = f"Thread.{GROUP}"
PAGE = 1000
_OPTIONS = WriteOptions(field_manager="kastra-memory", field_validation="Strict")
_KEPT = 10_000
_ATTEMPTS = 10


def threads_of(store: ObjectStore, clock: "Clock") -> "Threads":
    """The threads of a store that this process owns or only reads."""
    from kastra.memory.threads import Threads

    database = store.database
    if database is None or database.path == MEMORY:
        return Threads(_Whole(store), clock)
    return Threads(_Whole(store), clock, database.path, database.driver)


class _Whole:
    """A store, as memory needs it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def submit(self, operations: Sequence[Operation]) -> Awaitable[None]:
        return self._store.submit(operations)

    async def query(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        if self._store.database is None:
            return await self._store.query(sql, parameters)
        return await self._store.writer.query(sql, parameters)


class ThreadObjects:
    """Finds and makes Thread objects, and their rows. One serves all clients."""

    def __init__(self, threads: "Threads") -> None:
        self._threads = threads
        # Uids whose row is known to be as the object says, by the generation of which that holds.
        self._opened: OrderedDict[str, int] = OrderedDict()

    def directory(self, client: Client) -> ThreadDirectory:
        """Finds and makes them with the rights of a client."""

        async def find(namespace: str, name: str, spec: Mapping[str, Any], owner: ThreadKey | None) -> ThreadKey:
            return await self._found(client, namespace, name, spec, owner)

        return ThreadDirectory(find)

    def on_behalf(self, client: Client) -> ThreadDirectory:
        """As `directory`, with the rights of who asks in a direct call, and of `client` in a Run."""

        async def find(namespace: str, name: str, spec: Mapping[str, Any], owner: ThreadKey | None) -> ThreadKey:
            return await self._found(caller() or client, namespace, name, spec, owner)

        return ThreadDirectory(find)

    async def key(self, thread: Object) -> ThreadKey:
        """What memory knows a Thread by, once it has a row."""
        key = thread_key(thread.uid, thread.namespace, thread.name, thread.spec)
        if self._opened.get(thread.uid) != thread.generation:
            await self._threads.open(key, thread.spec.get("title") or "")
            self._opened[thread.uid] = thread.generation
            if len(self._opened) > _KEPT:
                self._opened.popitem(last=False)
        return key

    async def _found(
        self, client: Client, namespace: str, name: str, spec: Mapping[str, Any], owner: ThreadKey | None
    ) -> ThreadKey:
        ref = ObjectRef(KIND, name, namespace)
        try:
            found = await client.get(ref)
        except NotFound:
            found = await self._make(client, ref, spec, owner)
        if found.deleting:
            raise ThreadRefused(f"thread {namespace}/{name} is being deleted")
        return await self.key(found)

    async def _make(self, client: Client, ref: ObjectRef, spec: Mapping[str, Any], owner: ThreadKey | None) -> Object:
        metadata: dict[str, Any] = {"name": ref.name, "namespace": ref.namespace}
        if owner is not None:
            metadata["ownerReferences"] = [
                {"apiVersion": API_VERSION, "kind": "Thread", "name": owner.name, "uid": owner.uid}
            ]
        body = {"apiVersion": API_VERSION, "kind": "Thread", "metadata": metadata, "spec": dict(spec)}
        try:
            for _ in range(_ATTEMPTS):
                try:
                    return await client.create(body, _OPTIONS)
                except AlreadyExists:
                    # It may be deleted in between.
                    with suppress(NotFound):
                        return await client.get(ref)
        except Invalid as error:
            raise ThreadRefused(f"thread {ref.namespace}/{ref.name}: {error.message}") from error
        raise ThreadRefused(f"thread {ref.namespace}/{ref.name} comes and goes; ask again")


async def thread_for(request: ConnectRequest, directory: ThreadDirectory) -> ThreadKey | None:
    """The thread that the body of a direct call names by `memory: {thread, resource?}`; None if it names none.

    Raises:
        BadRequest: it isn't said as it must be, or the thread can't be used.
    """
    given = (request.body or {}).get("memory")
    if given is None:
        return None
    plain: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    thread = plain.get("thread")
    named: Mapping[str, Any] = thread if isinstance(thread, Mapping) else {"id": thread}
    name, resource, title = named.get("id"), plain.get("resource") or "", named.get("title") or ""
    if not isinstance(name, str) or not name or not isinstance(resource, str) or not isinstance(title, str):
        raise BadRequest("memory: must be {thread, resource}; thread is a name, or {id, title}")
    agent = request.object.name if request.object.kind == "Agent" else ""
    memory = request.object.spec.get("memory")
    retention = memory.get("ttl") if isinstance(memory, Mapping) else None
    try:
        found = await directory.open(
            request.object.namespace,
            name,
            agent=agent,
            resource=resource,
            retention=retention,
            title=title,
        )
    except ThreadRefused as error:
        raise BadRequest(str(error)) from error
    if found.agent and not agent:
        raise BadRequest(f"thread {name} is one of agent {found.agent}, not of network {request.object.name}")
    return found


class ThreadReads:
    """What can be read and done below a Thread."""

    def __init__(self, threads: "Threads", objects: ThreadObjects) -> None:
        self._threads = threads
        self._objects = objects

    async def messages(self, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """Messages after number `since`."""
        for row in await self._threads.page(request.object.uid, request.since or 0, PAGE):
            yield row

    async def search(self, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """Messages that hold every word of `query`, newest first. Raises BadRequest."""
        body = _known(request, ("query", "limit"))
        query, limit = body.get("query"), body.get("limit", 20)
        if not isinstance(query, str) or not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise BadRequest("query must be a text, and limit a number of 1 or more")
        try:
            found = await self._threads.search(request.object.uid, query, limit)
        except ValueError as error:
            raise BadRequest(f"query: {error}") from error
        for row in found:
            yield row

    async def clone(self, request: ConnectRequest, client: Client) -> AsyncIterator[Mapping[str, Any]]:
        """Make another Thread with the same messages; one record, the new object.

        Raises:
            BadRequest: no name is given.
            AlreadyExists: there is one of that name.
            Conflict: this one is being deleted.
        """
        body = _known(request, ("name", "resourceId", "title"))
        thread = request.object
        if not isinstance(body.get("name"), str) or not body["name"]:
            raise BadRequest("name: say what the new thread shall be called")
        if thread.deleting:
            raise Conflict(f"thread {thread.name} is being deleted")
        changed = {field: body[field] for field in ("resourceId", "title") if body.get(field) is not None}
        made = await client.create(
            {
                "apiVersion": API_VERSION,
                "kind": "Thread",
                "metadata": {"name": body["name"], "namespace": thread.namespace},
                "spec": {**thread.spec, **changed},
            },
            _OPTIONS,
        )
        await self._objects.key(thread)
        await self._objects.key(made)
        await self._threads.clone(thread.uid, made.uid)
        yield made.data


class AppMemory:
    """Memory of a store, wired: its threads, their objects, and what hangs below these.

    Args:
        store: that this process owns, or only reads.
        clock: stamps messages.
        vectors: which index searches vectors, as in the settings.
    """

    def __init__(self, store: ObjectStore, clock: "Clock", vectors: str = "") -> None:
        from kastra.memory.backends import index_factory
        from kastra.memory.passages import Passages
        from kastra.memory.recall import Recall

        self.threads = threads_of(store, clock)
        self.recall = Recall(self.threads, index_factory(vectors))
        # On a thread of its own: a search in many passages holds up nobody's conversation.
        self.passages = Passages(threads_of(store, clock), index_factory(vectors))
        self.objects = ThreadObjects(self.threads)
        self._reads = ThreadReads(self.threads, self.objects)

    def connect(self, name: str, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """The records of `messages` or `search`."""
        return self._reads.search(request) if name == "search" else self._reads.messages(request)

    def clone(self, request: ConnectRequest, client: Client) -> AsyncIterator[Mapping[str, Any]]:
        """Copies a thread with the rights of a client."""
        return self._reads.clone(request, client)


def _known(request: ConnectRequest, fields: tuple[str, ...]) -> Mapping[str, Any]:
    body = request.body or {}
    unknown = sorted(body.keys() - {*fields, "apiVersion", "kind", "metadata"})
    if unknown:
        raise BadRequest(f"unknown field {unknown[0]!r}: it takes {', '.join(fields)}")
    return body
