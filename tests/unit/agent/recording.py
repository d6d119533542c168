"""A step context that keeps its journal in a dictionary, so that a test can see it and run again on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kastra.api.types import Closure, ClosureObject
from kastra.engine.step import DEFAULT_CALL, CallOptions, EffectFunction, StepError
from kastra.sql.interface import Statement


@dataclass
class Journal:
    """What happened: values and failures of effects, decisions, writes, events, in order."""

    values: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, StepError] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    performed: list[str] = field(default_factory=list)
    options: dict[str, CallOptions] = field(default_factory=dict)
    writes: list[Statement] = field(default_factory=list)
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    lose_after: int | None = None
    """Performing so many effects works, the next one ends in a crash."""

    def survivor(self) -> "Journal":
        """What a recovered Run finds."""
        return Journal(dict(self.values), dict(self.failures), dict(self.decisions))


class Crash(BaseException):
    """The process is gone."""


@dataclass
class _Effect:
    step: "Recording"
    idempotency_key: str
    attempt: int = 1

    def emit(self, delta: Mapping[str, Any]) -> None:
        if delta:
            self.step.journal.events.append(("delta", delta))

    def write(self, statement: Statement) -> None:
        self.step.journal.writes.append(statement)


class Recording:
    """A place in a Run whose journal is `journal`."""

    def __init__(self, journal: Journal | None = None, key: str = "") -> None:
        self.journal = journal or Journal()
        self._key = key

    @property
    def run_uid(self) -> str:
        return "run-1"

    @property
    def key(self) -> str:
        return self._key

    @property
    def used(self) -> dict[str, float]:
        """What the model calls that are recorded used, as a direct call counts it."""
        total: dict[str, float] = {}
        for value in self.journal.values.values():
            if isinstance(value, dict) and isinstance(value.get("usage"), dict):
                for name, amount in value["usage"].items():
                    total[name] = total.get(name, 0) + (amount or 0)
        return total

    def child(self, segment: str) -> "Recording":
        return Recording(self.journal, self._below(segment))

    def _below(self, segment: str) -> str:
        return "/".join(part for part in (self._key, segment) if part)

    async def call(self, key: str, fn: EffectFunction, options: CallOptions = DEFAULT_CALL) -> Any:
        below, journal = self._below(key), self.journal
        if below in journal.values:
            return journal.values[below]
        if below in journal.failures:
            raise journal.failures[below]
        if journal.lose_after is not None and len(journal.performed) >= journal.lose_after:
            raise Crash(below)
        journal.performed.append(below)
        journal.options[below] = options
        try:
            value = await fn(_Effect(self, f"run-1/{below}"))
        except StepError as error:
            journal.failures[below] = error
            raise
        journal.values[below] = orjson.loads(orjson.dumps(value))
        return journal.values[below]

    async def decide(self, key: str, value: Any) -> Any:
        return self.journal.decisions.setdefault(self._below(key), value)

    def emit(self, event: str, data: Mapping[str, Any]) -> None:
        self.journal.events.append((event, data))


def obj(kind: str, name: str, spec: Mapping[str, Any], refs: Mapping[str, str] | None = None) -> ClosureObject:
    """An object of a closure in namespace `default`."""
    return {
        "kind": kind,
        "namespace": "default",
        "name": name,
        "uid": f"uid-{name}",
        "generation": 1,
        "spec": spec,
        "refs": dict(refs or {}),
    }


def closure(*objects: ClosureObject) -> Closure:
    """A closure whose root is the first object."""
    named = {f"{o['kind']}/{o['namespace']}/{o['name']}": o for o in objects}
    return {"root": next(iter(named)), "objects": named}


def target(made: Closure) -> dict[str, Any]:
    """The root, as a runner is handed it."""
    return {**made["objects"][made["root"]], "id": made["root"], "objects": made["objects"]}


def scripted(*rules: Mapping[str, Any]) -> dict[str, Any]:
    """A model that says what the rules say."""
    return {"provider": "scripted", "name": "scripted", "parameters": {"rules": list(rules)}}
