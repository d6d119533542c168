"""How does a model answer a second time as it did the first, without being asked? From a cassette: a file of what it said.

    record   ask the model, and write down the request and the response, replacing what was there for that request
    replay   answer from the cassette alone; a request that isn't on it is an error that shows the nearest one, with a diff
    auto     answer from the cassette where it can, ask and write down where it can't

What is recorded is the conversation between Kastra and the model, not the provider's bytes: messages, tools, settings, and
the chunks of the answer. So a cassette outlives a change of provider, holds no header, and can be read and edited. Values
that are known to be secrets are replaced before anything is written. The same request asked twice is answered in the order of
the recording; when that is used up the last answer stays.

One JSON document, `{"version": 1, "entries": [{"request", "response", "chunks"}]}`, written anew as a whole: a crash leaves
the old file or the new one. Source: VCR and its descendants. Read next: `kastra.model.interface`.
"""

import difflib
import hashlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import orjson

from kastra.telemetry import without_secrets

from .interface import (
    End,
    Model,
    ModelError,
    ModelRequest,
    ModelResponse,
    ModelStream,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    chunks_of,
    stream,
)

Mode = Literal["record", "replay", "auto"]
MAX_FILE = 64 * 1024 * 1024
"""Bytes of a cassette."""
_LINES = 40
"""Lines of a diff that an error shows."""


class Cassette:
    """One file of recorded answers, shared by the models that name it.

    Args:
        path: of the file; it need not exist to be recorded to.
        mode: what to do.

    Attributes:
        kept: answers that this object has written down.
    """

    def __init__(self, path: Path, mode: Mode) -> None:
        self.path = path
        self.mode: Mode = mode
        self._entries: list[dict[str, Any]] | None = None
        self._played: dict[str, int] = defaultdict(int)
        self._renewed: set[str] = set()
        self.kept = 0
        self._lock = anyio.Lock()

    async def find(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The next answer recorded for a request, as an entry; None if there is none.

        Raises:
            ModelError: the file can't be read.
        """
        entries = await self._load()
        key = digest(request)
        found = [entry for entry in entries if entry["digest"] == key]
        if not found:
            return None
        number = min(self._played[key], len(found) - 1)
        self._played[key] += 1
        return found[number]

    async def keep(self, request: Mapping[str, Any], response: ModelResponse, chunks: Sequence[Any]) -> None:
        """Write down an answer; the first to a request replaces what earlier recordings have for it.

        Raises:
            ModelError: the file can't be written.
        """
        async with self._lock:
            entries = await self._load()
            key = digest(request)
            if self.mode == "record" and key not in self._renewed:
                entries[:] = [entry for entry in entries if entry["digest"] != key]
            self._renewed.add(key)
            entry = {"request": request, "response": without_secrets(response.plain()), "chunks": list(chunks)}
            entries.append({**entry, "digest": key})
            plain = {"version": 1, "entries": [{k: v for k, v in e.items() if k != "digest"} for e in entries]}
            body = orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n"
            try:
                await anyio.to_thread.run_sync(_write, self.path, body)
            except OSError as error:
                raise self._failed(f"can't be written: {error.strerror}") from None
            self.kept += 1

    async def missing(self, request: Mapping[str, Any]) -> ModelError:
        """The error for a request that isn't on the cassette: what is nearest to it, and how that differs."""
        entries = await self._load()
        text = _readable(request)
        if not entries:
            return self._failed(
                f"it is empty, or {self.path} does not exist; record it: kastra record, or mode: record"
            )
        near = max(entries, key=lambda e: difflib.SequenceMatcher(None, text, _readable(e["request"])).quick_ratio())
        lines = difflib.unified_diff(
            _readable(near["request"]).splitlines(), text.splitlines(), "on the cassette", "asked now", lineterm="", n=2
        )
        diff = list(lines)
        shown = "\n".join(diff[:_LINES]) + ("\n..." if len(diff) > _LINES else "")
        return self._failed(f"none of its {len(entries)} requests is the one asked; the nearest differs:\n{shown}")

    def _failed(self, what: str) -> ModelError:
        return ModelError("invalid_request", f"cassette {self.path.name}: {what}", retryable=False)

    async def _load(self) -> list[dict[str, Any]]:
        if self._entries is None:
            try:
                entries = await anyio.to_thread.run_sync(_read, self.path)
            except OSError as error:
                raise self._failed(f"can't be read: {error.strerror}") from None
            except ValueError as error:
                raise self._failed(f"is no cassette: {error}") from None
            # Another call may have read it meanwhile, and may have added to it.
            if self._entries is None:
                self._entries = entries
        return self._entries


class CassetteModel:
    """A model with a cassette before it.

    Args:
        model: what is asked where the cassette doesn't answer; None in mode replay, which needs no model.
        cassette: to answer from and to write to.
        name: of the model, a part of every request.
    """

    def __init__(self, model: Model | None, cassette: Cassette, name: str) -> None:
        self._model = model
        self._cassette = cassette
        self._name = name

    async def generate(self, request: ModelRequest) -> ModelResponse:
        """A recorded response, or the model's.

        Raises:
            ModelError: as the model, or the cassette, says.
        """
        async with aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, End):
                    return chunk.response
        raise ModelError("malformed", "the model's stream ended without a response")

    async def stream(self, request: ModelRequest) -> ModelStream:
        """A recorded response as it arrived then, or the model's as it arrives now.

        Raises:
            ModelError: as the model, or the cassette, says.
        """
        plain = recorded(request, self._name)
        if self._cassette.mode != "record":
            entry = await self._cassette.find(plain)
            if entry is not None:
                response = ModelResponse.of(entry["response"])
                for chunk in _chunks(entry.get("chunks"), response):
                    yield chunk
                return
        if self._model is None or self._cassette.mode == "replay":
            raise await self._cassette.missing(plain)
        deltas: list[Any] = []
        async with aclosing(stream(self._model, request)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, TextDelta):
                    deltas.append({"text": without_secrets(chunk.text)})
                elif isinstance(chunk, ReasoningDelta):
                    deltas.append({"reasoning": without_secrets(chunk.text)})
                elif isinstance(chunk, ToolCallDelta):
                    delta = [chunk.index, chunk.id, chunk.name, without_secrets(chunk.arguments)]
                    deltas.append({"call": delta})
                elif isinstance(chunk, End):
                    await self._cassette.keep(plain, chunk.response, deltas)
                yield chunk


def _chunks(recorded_chunks: Any, response: ModelResponse) -> list[Any]:
    if not isinstance(recorded_chunks, list) or not recorded_chunks:
        return list(chunks_of(response))
    chunks: list[Any] = []
    for chunk in recorded_chunks:
        if "text" in chunk:
            chunks.append(TextDelta(chunk["text"]))
        elif "reasoning" in chunk:
            chunks.append(ReasoningDelta(chunk["reasoning"]))
        elif "call" in chunk:
            chunks.append(ToolCallDelta(*chunk["call"]))
    return [*chunks, End(response)]


def recorded(request: ModelRequest, name: str) -> dict[str, Any]:
    """A request as a cassette has it: all that the model is told, without secrets."""
    plain = {
        "model": name,
        "messages": list(request.messages),
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
        ],
        "toolChoice": request.tool_choice,
        "outputSchema": request.output_schema,
        "parameters": {key: value for key, value in request.parameters.items() if key != "timeout"},
    }
    # Through JSON, so that what is compared is what is written.
    compared: dict[str, Any] = orjson.loads(orjson.dumps(without_secrets(plain), option=orjson.OPT_NON_STR_KEYS))
    return compared


def digest(request: Mapping[str, Any]) -> str:
    """Equal for equal requests, whatever the order of their keys."""
    return hashlib.blake2b(orjson.dumps(request, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _readable(request: Mapping[str, Any]) -> str:
    return json.dumps(request, indent=1, sort_keys=True, ensure_ascii=False)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise ValueError(f"it has more than {MAX_FILE:,} bytes")
        plain = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    if not isinstance(plain, dict) or plain.get("version") != 1 or not isinstance(plain.get("entries"), list):
        raise ValueError('it must be {"version": 1, "entries": [...]}')
    entries = []
    for index, entry in enumerate(plain["entries"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("request"), dict):
            raise ValueError(f"entries[{index}] has no request")
        response = entry.get("response")
        if not isinstance(response, dict) or not {
            "text",
            "toolCalls",
            "object",
            "usage",
            "finishReason",
            "model",
        } <= set(response):
            raise ValueError(f"entries[{index}].response is not whole")
        entries.append({**entry, "digest": digest(entry["request"])})
    return entries


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Cassettes:
    """The cassettes of a process, by path; mode and place of all of them can be set for tests and for `kastra record`.

    Args:
        folder: that paths are below; None where no files are read or written.
        override: a mode, or `off`, for every model, whatever its Model says; empty for what it says.
    """

    def __init__(self, folder: Path | None, override: str = "") -> None:
        self._folder = folder.resolve() if folder is not None else None
        self._override = override
        self._known: dict[tuple[Path, Mode], Cassette] = {}

    def of(self, spec: Mapping[str, Any] | None, name: str) -> Cassette | None:
        """The cassette of a model; None if it has none.

        Args:
            spec: `spec.cassette` of a Model: `{mode, path, ref}`.
            name: of the file if neither is given.

        Raises:
            ValueError: its path leads out of the folder.
        """
        given = spec or {}
        mode: Any = self._override or given.get("mode")
        if mode in (None, False, "off"):
            return None
        return self.at(self._path(given, name), mode)

    def at(self, path: Path, mode: Mode) -> Cassette:
        """The cassette of a file: one and the same for everybody who asks."""
        known = self._known.get((path, mode))
        if known is None:
            known = self._known[path, mode] = Cassette(path, mode)
        return known

    def kept(self) -> dict[Path, int]:
        """How many answers have been written down, by file; files without any are left out."""
        return {path: cassette.kept for (path, _), cassette in self._known.items() if cassette.kept}

    def _path(self, given: Mapping[str, Any], name: str) -> Path:
        if self._folder is None:
            raise ValueError("spec.cassette: this process reads and writes no files for manifests")
        if given.get("path"):
            relative = str(given["path"])
        else:
            relative = f"cassettes/{given.get('ref') or name}.json"
        path = (self._folder / relative).resolve()
        if not path.is_relative_to(self._folder):
            raise ValueError(f"spec.cassette.path: {relative[:200]} lies outside the project folder")
        return path
