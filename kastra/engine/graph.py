"""What is a workflow once it is compiled? An immutable tree of scopes and steps, ready to be walked.

The executor reads nothing but this: every name is an index, every duration a number, every expression a program. A graph
holds no state of a Run and is shared by all Runs of one definition. `kastra.engine.compiler` makes it from the *plain
normalised spec*, the one form that `kastra.runtime.view_steps` turns all accepted shapes into:

    flow?: Sequence | DAG       initialStep?: id       steps: [step, ...]
    input: {schema?}            output: {schema?, as?}             state: {schema?, initial?}
    defaults: {retry?, timeout?, delivery?}            timeout: {attempt?, total?}
    maxStepExecutions, concurrency: {maxStepsInFlight}, and what isn't executed, as written
    finally: [step, ...]        onError: fail | compensate              compensation: {order?, retry?}

    step: {id, <kind>: body, when?, onSkip?, next?, dependsOn?: [id] | "cel", input?, output?, retry?, timeout?, catch?,
           continueOnError?, delivery?, onInDoubt?, idempotencyKey?, compensate?: {steps}, ...}, exactly one kind
      input: {from: [name, ...]} | {with: {...}}, and prompt?, schema?      output: {type?, as?, export?, schema?, sensitive?}
      retry: {limit, initialInterval, backoff, maxInterval, maxElapsed, jitter, when, nonRetryable, respectRetryAfter}
      timeout: {attempt?, total?}

    agent, tool, workflow, network: {name, namespace?}     python: {entrypoint | inline}      set: {...}
    parallel: {steps, join?, maxConcurrency?}              do: {steps, flow?, initialStep?}
    branch: {mode?, cases: [{when, steps | next}], default?: {steps | next}}
    loop: {while | until, maxIterations, delay?, steps}    raise: {type, status?, title?, detail?}
    forEach: {items, as?, indexAs?, concurrency?, batchSize?, failFast?, toleratedFailures?, steps}
    sleep: {duration | expression}                         sleepUntil: an RFC 3339 time, or an expression

The path of a step is its place in that spec (`spec.steps[1].do.steps[0]`), and `<path>.<kind>` is the path of its reference.

Source: the state machine of the Amazon States Language, with CEL in place of JSONPath. Read next: `kastra.engine.compiler`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .expressions import Condition, Template
from .retry import RetryPolicy

if TYPE_CHECKING:
    from .compensation import Compensation
    from .memo import Memo

END = -1
"""The index after the last step."""

LEAF_KINDS = ("agent", "tool", "python", "workflow", "network")
"""Step kinds performed by a `StepRunner`."""

KINDS = (
    *LEAF_KINDS, "parallel", "branch", "loop", "forEach", "do", "sleep", "sleepUntil", "waitForEvent", "suspend",
    "approve", "set", "emit", "raise",
)  # fmt: skip
"""Every step kind there is."""


class Flow(StrEnum):
    """In what order a scope's steps run."""

    SEQUENCE = "Sequence"
    """One after the other, along `next`."""
    DAG = "DAG"
    """Each as soon as what it depends on is done."""
    PARALLEL = "Parallel"
    """All at once."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input comes from: `input` (the Run's), a step's output by `step` id, or by output `name`."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Parallel:
    """Children all at once; `join` is all, any, settled, or how many must succeed."""

    scope: "Scope"
    join: str | int
    limit: int


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One way of a branch: the steps of `scope`, or a jump to step `next`. Taken when `when` holds; None is the default."""

    when: Condition | None
    scope: "Scope | None"
    next: int
    segment: str


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """The first case that holds, or all that hold; the default if none does."""

    every: bool
    cases: tuple[Case, ...]
    default: Case | None


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """A body repeated while or until a condition holds, at most `limit` times, with `delay` seconds between."""

    scope: "Scope"
    while_: Condition | None
    until: Condition | None
    limit: int
    delay: float


@dataclass(frozen=True, slots=True, eq=False)
class ForEach:
    """A body for each item, or for each `batch` of so many; `tolerated` failures are a count, or per cent of the bodies."""

    scope: "Scope"
    items: Condition | tuple[Any, ...]
    item_name: str
    index_name: str
    concurrency: int
    fail_fast: bool
    tolerated: float
    tolerated_share: bool
    batch: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Sleep:
    """A pause of `seconds`, or until `time`; either may be an expression."""

    seconds: float | None = None
    time: str | None = None
    expression: Condition | None = None
    until: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Catch:
    """What to do about errors of the given types (all if empty) that meet `when`: steps, a value, a jump."""

    errors: tuple[str, ...]
    when: Condition | None
    name: str
    scope: "Scope | None"
    next: int | None
    output: Template | None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step; indices refer to its own scope.

    Args:
        body: by kind: `Scope` (do), `Parallel`, `Branch`, `Loop`, `ForEach`, `Sleep`, `Template` (set, raise), or None.
        depends: steps that must be done first; None where `condition` says when.
        input: where the input comes from: sources, a template, or None for what precedes the step.
        options: the common fields that a runner is handed.
        memory: the thread that it goes on with: `{thread, resource}`, with expressions.
    """

    id: str
    kind: str
    path: str
    index: int
    body: Any = None
    when: Condition | None = None
    skip_dependents: bool = False
    next: int = END
    depends: tuple[int, ...] = ()
    condition: Condition | None = None
    watches: tuple[int, ...] = ()
    input: "tuple[Source, ...] | Template | None" = None
    prompt: Template | None = None
    input_schema: Mapping[str, Any] | None = None
    output_name: str = ""
    output_as: Template | None = None
    export: Template | None = None
    output_schema: Mapping[str, Any] | None = None
    sensitive: bool = False
    retry: RetryPolicy | None = None
    retry_when: Condition | None = None
    attempt_timeout: float | None = None
    total_timeout: float | None = None
    heartbeat_timeout: float | None = None
    queue_timeout: float | None = None
    priority: int = 0
    catches: tuple[Catch, ...] = ()
    continue_on_error: bool = False
    idempotency_key: Template | None = None
    compensate: "Compensation | None" = None
    memo: "Memo | None" = None
    memory: Template | None = None
    budget: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_leaf(self) -> bool:
        """Whether a runner performs it."""
        return self.kind in LEAF_KINDS


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """Steps that see each other.

    Args:
        names: output names, by the indices of the steps that produce them.
        cyclic: whether a jump can lead backwards, so that a step may be visited again.
    """

    steps: tuple[Step, ...]
    flow: Flow
    initial: int
    index: Mapping[str, int]
    names: Mapping[str, tuple[int, ...]]
    cyclic: bool = False

    def walk(self) -> Iterator[Step]:
        """Every step of this scope and below."""
        for step in self.steps:
            yield step
            for scope in nested(step):
                yield from scope.walk()


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A compiled workflow.

    Args:
        features: what the spec asks for beyond what the executor does: (field path, feature).
        finally_: steps that run at the end whatever happened.
        compensates: whether a Run that fails undoes what completed; `compensate_at_once` instead of one by one, in reverse.
        budget: limits of each Run; `budgeted` whether a step has some of its own.
        forgets: whether values are stored that only the Run itself can use.
    """

    scope: Scope
    input_schema: Mapping[str, Any] | None
    output_schema: Mapping[str, Any] | None
    output: Template | None
    state: Mapping[str, Any]
    state_schema: Mapping[str, Any] | None
    timeout: float | None
    max_executions: int
    max_in_flight: int
    features: tuple[tuple[str, str], ...]
    finally_: Scope | None = None
    compensates: bool = False
    compensate_at_once: bool = False
    forgets: bool = False
    budget: Mapping[str, Any] | None = None
    budgeted: bool = False

    def walk(self) -> Iterator[Step]:
        """Every step there is."""
        yield from self.scope.walk()
        if self.finally_ is not None:
            yield from self.finally_.walk()


def nested(step: Step) -> Iterator[Scope]:
    """The scopes inside a step."""
    body = step.body
    if isinstance(body, Scope):
        yield body
    elif isinstance(body, Parallel | Loop | ForEach):
        yield body.scope
    elif isinstance(body, Branch):
        for case in (*body.cases, *((body.default,) if body.default else ())):
            if case.scope is not None:
                yield case.scope
    for catch in step.catches:
        if catch.scope is not None:
            yield catch.scope
    if step.compensate is not None:
        yield step.compensate.scope


def unsupported(graph: Graph) -> list[tuple[str, str]]:
    """(field path, feature) of everything the spec asks for that the executor doesn't do; such a graph isn't run."""
    return list(graph.features)
