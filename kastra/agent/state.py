"""What do the members of a network share? Values by key, changed through reducers, checked by a schema.

The truth is the journal: a network's state is what its initial values and the recorded changes add up to. With
`persistence`, each change is also a row of the table `kv`, written in the same commit as the effect that made it, for those
outside and for later Runs.

Source: reducers as in LangGraph, limited to those that a manifest can name. Read next: `kastra.agent.network`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import orjson

from kastra.clock import Clock, milliseconds
from kastra.engine.step import CallOptions, Effect, StepContext, StepError
from kastra.sql.interface import Statement
from kastra.tool.schema import JsonSchema

REDUCERS = ("replace", "append", "merge", "add", "max", "min")
"""How a change of a key is joined with what is there."""

_UPSERT = (
    "INSERT INTO kv(scope, key, ver, expires_at, value) VALUES (?, ?, 1, ?, ?) "
    "ON CONFLICT(scope, key) DO UPDATE SET ver = ver + 1, expires_at = excluded.expires_at, value = excluded.value"
)


class StateReader(Protocol):
    """Reads state that earlier Runs left."""

    async def load(self, scope: str) -> Mapping[str, Any]:
        """The values of `scope` that have not expired, by key."""
        ...


@dataclass(frozen=True, slots=True)
class StateSpec:
    """What a network's spec says of its state.

    Args:
        initial: values at the start.
        reducers: by key; `replace` where none is named.
        schema: of all values together; None for any.
        persistence: whether changes are written to `kv`.
        shared: whether all Runs of the network share them.
        ttl: seconds since its last write after which a value is dropped; None for never.
    """

    initial: Mapping[str, Any] = field(default_factory=dict)
    reducers: Mapping[str, str] = field(default_factory=dict)
    schema: JsonSchema | None = None
    persistence: bool = False
    shared: bool = False
    ttl: float | None = None

    def keys(self) -> list[str]:
        """The keys that members are told of."""
        declared = self.schema.schema.get("properties", {}) if self.schema else {}
        return sorted({*self.initial, *self.reducers, *declared})

    def properties(self) -> dict[str, Any]:
        """JSON Schemas of the changes that can be made, by key."""
        declared = self.schema.schema.get("properties", {}) if self.schema else {}
        return {
            key: {} if self.reducers.get(key, "replace") == "append" else declared.get(key, {}) for key in self.keys()
        }


class NetworkState:
    """The state of one network in one Run.

    Args:
        spec: see there.
        scope: of its rows in `kv`.
        clock: for their expiry.
        loaded: what earlier Runs left.
    """

    def __init__(self, spec: StateSpec, scope: str, clock: Clock, loaded: Mapping[str, Any] | None = None) -> None:
        self._spec = spec
        self._scope = scope
        self._clock = clock
        self.values: dict[str, Any] = {**spec.initial, **(loaded or {})}

    @property
    def spec(self) -> StateSpec:
        """What it was made from."""
        return self._spec

    def changed(self, updates: Mapping[str, Any]) -> dict[str, Any]:
        """The new values of the keys in `updates`, without changing anything.

        Raises:
            ValueError: a key isn't declared, a reducer can't join the values, or the result breaks the schema.
        """
        known = self._spec.keys()
        new: dict[str, Any] = {}
        for key, value in updates.items():
            if key not in known:
                raise ValueError(f"state has no key {key!r}; there are: {', '.join(known) or 'none'}")
            new[key] = _reduce(self._spec.reducers.get(key, "replace"), key, self.values.get(key), value)
        if self._spec.schema is not None and (problems := self._spec.schema.problems({**self.values, **new})):
            raise ValueError(f"state: {'; '.join(problems)}")
        return new

    async def update(
        self, step: StepContext, key: str, updates: Mapping[str, Any], kind: str = "step"
    ) -> dict[str, Any]:
        """Change values by an effect of their own; returns `{result}` with the new ones, or `{error}` if that isn't allowed.

        The values that were reached are recorded, not the changes, so that a recovered Run reaches the same.
        """
        performed = False

        async def write(effect: Effect) -> dict[str, Any]:
            nonlocal performed
            try:
                new = self.changed(updates)
            except ValueError as error:
                return {"error": {"type": "validation", "title": str(error)}}
            self._write(new, effect)
            self.values.update(new)
            performed = True
            return {"result": new}

        outcome: dict[str, Any] = await step.call(key, write, CallOptions(kind=kind, describe={"tool": "state.set"}))
        if not performed:
            self.values.update(outcome.get("result") or {})
        return outcome

    def _write(self, new: Mapping[str, Any], effect: Effect) -> None:
        """Let the rows of these values commit with `effect`."""
        if not self._spec.persistence:
            return
        expires = None
        if self._spec.ttl is not None:
            expires = milliseconds(self._clock.now()) + round(self._spec.ttl * 1000)
        for key, value in new.items():
            effect.write(Statement(_UPSERT, (self._scope, key, expires, orjson.dumps(value))))

    def digest(self) -> str:
        """Equal for equal values."""
        return sha256(orjson.dumps(self.values, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def state_spec(spec: Mapping[str, Any], ttl: float | None) -> StateSpec:
    """From the plain `spec.state` of a Network.

    Raises:
        StepError: a reducer isn't one, or the schema is none (type `validation`).
    """
    for key, reducer in (spec.get("reducers") or {}).items():
        if reducer not in REDUCERS:
            raise StepError(
                "validation",
                f"spec.state.reducers[{key}]: {reducer!r} is not one of {', '.join(REDUCERS)}",
                retryable=False,
            )
    try:
        schema = None if spec.get("schema") is None else JsonSchema(spec["schema"], "spec.state.schema")
    except ValueError as error:
        raise StepError("validation", str(error), retryable=False) from None
    return StateSpec(
        initial=spec.get("initial") or {},
        reducers=spec.get("reducers") or {},
        schema=schema,
        persistence=bool(spec.get("persistence")),
        shared=spec.get("scope") == "network",
        ttl=ttl,
    )


def _reduce(reducer: str, key: str, old: Any, new: Any) -> Any:
    if reducer == "append":
        return [
            *(old if isinstance(old, list) else [] if old is None else [old]),
            *(new if isinstance(new, list) else [new]),
        ]
    if old is None or reducer == "replace":
        return new
    if reducer == "merge" and isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **new}
    numbers = not isinstance(old, bool) and not isinstance(new, bool)
    if numbers and isinstance(old, (int, float)) and isinstance(new, (int, float)):
        if reducer == "add":
            return old + new
        if reducer in ("max", "min"):
            return max(old, new) if reducer == "max" else min(old, new)
    raise ValueError(f"state.{key}: {reducer} can't join a {type(old).__name__} and a {type(new).__name__}")
