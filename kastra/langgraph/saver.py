"""LangGraph's checkpointer: what a thread's state was after each of its steps, durable before LangGraph goes on.

`put` and `put_writes` return when the disk has what they were given (`durability="power"`), or the operating system has it
(`"process"`, which survives `kill -9`). Calls of many threads and event loops are committed together. Values are
deserialized strictly: of types that LangGraph doesn't know itself only those in `allow` are made anew, since whoever can
write the file could otherwise run code in this process.

Source: langgraph.checkpoint.base.BaseCheckpointSaver, and the layout of LangGraph's own PostgreSQL saver. Read next:
`kastra.langgraph.link`.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from kastra.sql.driver import Row, Rows
from kastra.sql.interface import Durability, Statement
from kastra.sql.writer import Writer

from . import statements as sql
from .encryption import StoreCipher
from .link import Link, OwnFile, Shared, prepare
from .pruning import outdated
from .statements import Address, Typed

_CHUNK = 50
"""Checkpoints read at a time when they are listed."""

STRATEGIES = ("keep_latest", "delete")

# In the class `list` is LangGraph's method.
_Statements = list[Statement]
_Ids = list[int]
_Tuples = list[CheckpointTuple]


class KastraSaver(BaseCheckpointSaver[str]):
    """Checkpoints in a libSQL file. Also a context manager, of both kinds, that closes itself.

    Args:
        store: the path of a file, which this process then owns, made if there is none; `:memory:` for none; or a Link.
        allow: types beside LangGraph's own that may be made from what is stored, as classes or `(module, name)`.
        key: a key file, made if there is none, with which values, writes and metadata are encrypted.
        serde: a serializer of your own, in place of `allow` and `key`.
        durability: `power` or `process`; see `kastra.sql.interface`.
        driver: `libsql` or `sqlite3`; see `kastra.sql.driver.choose`.
        wait: seconds to wait for another process to let go of the file.

    Raises:
        Owned: another process, or a Kastra that is open in this one, has the file.
        SqlError: it can't be opened.
        ValueError: `serde` together with `allow` or `key`.
    """

    def __init__(
        self,
        store: str | Path | Link,
        *,
        allow: Collection[type | tuple[str, ...]] = (),
        key: str | Path | None = None,
        serde: SerializerProtocol | None = None,
        durability: Durability = "power",
        driver: str | None = None,
        wait: float = 10.0,
    ) -> None:
        if serde is not None and (allow or key is not None):
            raise ValueError("allow and key belong to the built-in serializer; give them to your own serde instead")
        if durability not in ("power", "process"):
            raise ValueError(f"durability {durability!r}: choose power or process")
        super().__init__(serde=serde if serde is not None else _serializer(allow, key))
        self._durability: Durability = durability
        self._link = OwnFile(store, driver, wait) if isinstance(store, (str, Path)) else store

    @classmethod
    async def on(cls, writer: Writer, path: str = "", **options: Any) -> Self:
        """A checkpointer on a store that is open on this event loop; see `kastra.app.embedded.Kastra.checkpointer`.

        Args:
            writer: of the store.
            path: of its file, for messages.
            options: as of the class, without `driver` and `wait`.
        """
        await prepare(writer, path)
        return cls(Shared(writer, asyncio.get_running_loop()), **options)

    def close(self) -> None:
        """Wait until everything is written and let go of the file. A second time does nothing."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # Reading.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the latest of its thread and namespace; None if there is none."""
        self._link.refuse_deadlock()
        return self._get_tuple(config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first.

        Args:
            config: of which thread, and namespace or checkpoint if it names one; all if None.
            filter: what must be equal in their metadata.
            before: only older ones than the checkpoint that it names.
            limit: at most so many.
        """
        self._link.refuse_deadlock()
        chunks = self._chunks(config, before)
        left = limit
        while (left is None or left > 0) and (chunk := next(chunks, None)) is not None:
            for found in self._load(self._matching(chunk, filter), left):
                yield found
                left = left - 1 if left is not None else None

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await asyncio.to_thread(self._get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        chunks = await asyncio.to_thread(self._chunks, config, before)
        left = limit
        while (left is None or left > 0) and (chunk := next(chunks, None)) is not None:
            matching = await asyncio.to_thread(self._matching, chunk, filter)
            for found in await asyncio.to_thread(self._load, matching, left):
                yield found
                left = left - 1 if left is not None else None

    # Writing.

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and the values of the channels in `new_versions`; returns the config that names it.

        Raises:
            ValueError: the config names no thread, or a name holds a NUL.
            InsufficientStorage: the disk is full.
            ServiceUnavailable: the file can't be written now, or the checkpointer is closed.
        """
        self._link.refuse_deadlock()
        at, todo = self._put(config, checkpoint, metadata, new_versions)
        self._write(todo).result()
        return _config(at)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        at, todo = self._put(config, checkpoint, metadata, new_versions)
        await asyncio.wrap_future(self._write(todo))
        return _config(at)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote after the checkpoint that `config` names. Raises as `put`."""
        self._link.refuse_deadlock()
        if todo := self._put_writes(config, writes, task_id, task_path):
            self._write(todo).result()

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        if todo := self._put_writes(config, writes, task_id, task_path):
            await asyncio.wrap_future(self._write(todo))

    def delete_thread(self, thread_id: str) -> None:
        """Remove everything of a thread. Raises as `put`."""
        self._link.refuse_deadlock()
        self._write(sql.delete_thread(str(thread_id))).result()

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await asyncio.wrap_future(self._write(sql.delete_thread(str(thread_id))))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata names one of these runs, with their writes. Raises as `put`."""
        self._link.refuse_deadlock()
        self._delete_for_runs(run_ids)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await asyncio.to_thread(self._delete_for_runs, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy everything of a thread to another; what that one has under the same address stays. Raises as `put`."""
        self._link.refuse_deadlock()
        self._copy_thread(source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await asyncio.to_thread(self._copy_thread, source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove old checkpoints of threads.

        Args:
            thread_ids: of which threads.
            strategy: `keep_latest` keeps the latest of each namespace, and those before it from which its delta channels
                are computed; `delete` keeps nothing.

        Raises:
            ValueError: there is no such strategy.
        """
        self._link.refuse_deadlock()
        self._prune(thread_ids, strategy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        await asyncio.to_thread(self._prune, thread_ids, strategy)

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """The version after `current`. No two are equal, so two branches of a thread never share a value."""
        number = 0 if current is None else current if isinstance(current, int) else int(str(current).split(".")[0])
        return f"{number + 1:032}.{uuid4().hex[:16]}"

    # What both kinds of calls share.

    def _write(self, todo: Sequence[Statement]) -> Future[None]:
        return self._link.write(todo, self._durability)

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> tuple[Address, _Statements]:
        at = Address(_thread(config), _namespace(config), _text(checkpoint["id"], "the checkpoint's id"))
        parent = get_checkpoint_id(config)
        values = checkpoint["channel_values"]
        body = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        versions = {_text(name, "a channel"): str(number) for name, number in checkpoint["channel_versions"].items()}
        told = get_checkpoint_metadata(config, metadata)
        run = told.get("run_id")
        todo = [
            sql.put_blob(at, _text(name, "a channel"), str(number), self._typed(values[name]))
            for name, number in new_versions.items()
            # A channel that lost its value has a version without one.
            if name in values
        ]
        todo.append(
            sql.put(
                at,
                _text(parent, "checkpoint_id") if parent else None,
                _text(run, "run_id") if run else None,
                orjson.dumps(versions),
                self._typed(body),
                self._typed(told),
            )
        )
        return at, todo

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> _Statements:
        checkpoint = get_checkpoint_id(config)
        if not checkpoint:
            raise ValueError("put_writes needs config['configurable']['checkpoint_id']")
        at = Address(_thread(config), _namespace(config), _text(checkpoint, "checkpoint_id"))
        task, path = _text(task_id, "task_id"), _text(task_path, "task_path")
        return [
            sql.put_write(
                at, task, path, WRITES_IDX_MAP.get(channel, index), _text(channel, "a channel"), self._typed(value)
            )
            for index, (channel, value) in enumerate(writes)
        ]

    def _delete_for_runs(self, run_ids: Sequence[str]) -> None:
        chosen = orjson.dumps([str(run) for run in run_ids]).decode()
        for (thread,) in self._link.read(sql.THREADS_OF_RUNS, (chosen,)):
            numbers = self._link.read(sql.OF_RUNS, (thread, chosen))
            self._write(sql.delete_checkpoints(thread, [number for (number,) in numbers])).result()

    def _copy_thread(self, source: str, target: str) -> None:
        if str(source) == str(target):
            raise ValueError(f"a thread can't be copied to itself: {source}")
        self._write(sql.copy_thread(str(source), _text(str(target), "the target thread"))).result()

    def _prune(self, thread_ids: Sequence[str], strategy: str) -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
        for thread in map(str, thread_ids):
            if strategy == "delete":
                self._write(sql.delete_thread(thread)).result()
                continue
            rows = self._link.read(sql.CHAIN, (thread,))
            stored = set(self._link.read(sql.STORED, (thread,)))
            if numbers := outdated(rows, stored, self.serde):
                self._write(sql.delete_checkpoints(thread, numbers)).result()

    def _get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread, namespace, checkpoint = _thread(config), _namespace(config), get_checkpoint_id(config)
        if checkpoint:
            rows = self._link.read(sql.EXACT, (thread, namespace, checkpoint))
        else:
            rows = self._link.read(sql.LATEST, (thread, namespace))
        return next(iter(self._load([number for (number,) in rows], None)), None)

    def _chunks(self, config: RunnableConfig | None, before: RunnableConfig | None) -> Iterator[_Ids]:
        given = config.get("configurable", {}) if config is not None else {}
        query, parameters = sql.select(
            _thread(config) if config is not None and "thread_id" in given else None,
            given.get("checkpoint_ns"),
            get_checkpoint_id(config) if config is not None else None,
            get_checkpoint_id(before) if before is not None else None,
        )
        found = [number for (number,) in self._link.read(query, parameters)]
        return (found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK))

    def _matching(self, numbers: _Ids, wanted: dict[str, Any] | None) -> _Ids:
        if not wanted:
            return numbers
        told = {
            number: self.serde.loads_typed((kind, body))
            for number, kind, body in self._link.read(sql.META, (sql.ids(numbers),))
        }
        return [
            number
            for number in numbers
            if number in told and all(told[number].get(key) == value for key, value in wanted.items())
        ]

    def _load(self, numbers: _Ids, limit: int | None) -> _Tuples:
        """The checkpoints in these rows, in this order, without those that are gone meanwhile."""
        if not numbers:
            return []
        rows = self._link.read(sql.PARTS, (sql.ids(numbers if limit is None else numbers[:limit]),))
        parts: dict[int, tuple[Row | None, dict[str, Any], Rows]] = {}
        for row in rows:
            _, values, writes = parts.setdefault(row[1], (None, {}, []))
            if row[0] == 0:
                parts[row[1]] = (row, values, writes)
            elif row[0] == 1:
                values[row[2]] = self.serde.loads_typed((row[7], row[8]))
            else:
                writes.append(row)
        return [
            self._tuple(head, values, writes)
            for head, values, writes in (parts.get(number, (None, {}, [])) for number in numbers)
            if head is not None
        ]

    def _tuple(self, head: Row, values: dict[str, Any], writes: Rows) -> CheckpointTuple:
        _, _, thread, namespace, checkpoint, parent, _, kind, body, meta_kind, meta = head
        stored: Checkpoint = self.serde.loads_typed((kind, body))
        stored["channel_values"] = values
        # By task_path, task and index: the order in which LangGraph applies them.
        ordered = sorted(writes, key=lambda row: (row[2], row[3], row[6]))
        return CheckpointTuple(
            config=_config(Address(thread, namespace, checkpoint)),
            checkpoint=stored,
            metadata=self.serde.loads_typed((meta_kind, meta)),
            parent_config=_config(Address(thread, namespace, parent)) if parent else None,
            pending_writes=[(row[3], row[4], self.serde.loads_typed((row[7], row[8]))) for row in ordered],
        )

    def _typed(self, value: Any) -> Typed:
        kind, body = self.serde.dumps_typed(value)
        return Typed(kind, bytes(body))


def _serializer(allow: Collection[type | tuple[str, ...]], key: str | Path | None) -> SerializerProtocol:
    plain = JsonPlusSerializer(allowed_msgpack_modules=None)
    strict = plain.with_msgpack_allowlist(allow) if allow else plain
    return strict if key is None else EncryptedSerializer(StoreCipher(key), strict)


def _config(at: Address) -> RunnableConfig:
    return {"configurable": {"thread_id": at.thread, "checkpoint_ns": at.ns, "checkpoint_id": at.checkpoint}}


def _thread(config: RunnableConfig) -> str:
    given = config.get("configurable", {}).get("thread_id")
    if given is None or given == "":
        raise ValueError("say which thread: config['configurable']['thread_id']")
    return _text(str(given), "thread_id")


def _namespace(config: RunnableConfig) -> str:
    return _text(config.get("configurable", {}).get("checkpoint_ns") or "", "checkpoint_ns")


def _text(value: Any, what: str) -> str:
    """A name as SQLite keeps it: it would be cut at a NUL, and then be another one."""
    text = str(value)
    if "\0" in text:
        raise ValueError(f"{what} holds a NUL: {text!r}")
    return text
