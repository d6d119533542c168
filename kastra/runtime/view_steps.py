"""A step of a workflow, read: whatever shape it is written in, it has one normal form.

`kastra.engine.graph` documents that form and the compiler turns it into a graph. What the schema of workflows leaves open
(nested steps, unions) is closed here: an unknown field of a step is refused with its place. What no schema can say (ids,
flow, expressions) is the compiler's.

Read next: `controllers/workflow.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from kastra.api.durations import parse_duration
from kastra.api.types import Reference

from .view_errors import forbidden, invalid, shape_error
from .view_types import Budget, Closed, Duration, Ref, Renamed, Retry
from .view_unions import either

REFERENCE_KINDS = {"agent": "Agent", "tool": "Tool", "workflow": "Workflow", "network": "Network"}
"""Step kinds that refer to an object, and its kind."""

Steps = Annotated[list["Step"], Field(min_length=1)]


def _timeout(value: Any) -> Any:
    return {"attempt": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _total(value: Any) -> Any:
    return {"total": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class Timeout(Closed):
    """Limits; a bare duration is that of an attempt for a step, of the whole for a workflow."""

    attempt: Duration | None = None
    total: Duration | None = None
    heartbeat: Duration | None = None
    queue: Duration | None = None


StepTimeout = Annotated[Timeout | None, BeforeValidator(_timeout)]
RunTimeout = Annotated[Timeout | None, BeforeValidator(_total)]


class StepInput(Closed):
    """Where a step's input comes from: `from` names steps, outputs or the Run's input, `with` is data.

    Also written as one name, or `{type: user-input}`.
    """

    from_: list[StrictStr] | None = Field(default=None, alias="from")
    with_: dict[str, Any] | None = Field(default=None, alias="with")
    prompt: StrictStr | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    @model_validator(mode="before")
    @classmethod
    def _from_short_shapes(cls, data: Any) -> Any:
        if isinstance(data, str | list):
            data = {"from": data}
        if not isinstance(data, Mapping):
            return data
        shaped = {key: value for key, value in data.items() if key != "type"}
        # Beside a source, a type only tells people what comes from there.
        if "type" in data and "from" not in data and "with" not in data:
            shaped["from"] = data["type"]
        if isinstance(shaped.get("from"), str):
            shaped["from"] = [shaped["from"]]
        if "from" in shaped and "with" in shaped:
            raise shape_error(forbidden("exactly one of from and with", "with"))
        return shaped


class StepOutput(Closed):
    """What becomes of a step's output: `type` names it, `as` reshapes it, `export` writes it to the state."""

    type: StrictStr | None = None
    as_: Any = Field(default=None, alias="as")
    export: dict[str, Any] | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    sensitive: StrictBool | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data


class Python(Closed):
    """A Python function, as a Tool's body: importable or written out."""

    entrypoint: StrictStr | None = None
    inline: StrictStr | None = None


class Parallel(Closed):
    """Steps at once."""

    steps: "Steps"
    join: StrictInt | StrictStr | None = None
    max_concurrency: StrictInt | None = Field(default=None, ge=1)


class Case(Closed):
    """One way of a branch."""

    when: StrictStr
    steps: "Steps | None" = None
    next: StrictStr | None = None


class Default(Closed):
    """What a branch does when no case holds."""

    steps: "Steps | None" = None
    next: StrictStr | None = None


class Branch(Closed):
    """A choice."""

    mode: Literal["first", "all"] | None = None
    cases: list[Case] = Field(min_length=1)
    default: Default | None = None


class Loop(Closed):
    """A repetition."""

    while_: StrictStr | None = Field(default=None, alias="while")
    until: StrictStr | None = None
    max_iterations: StrictInt = Field(ge=1)
    delay: Duration | None = None
    steps: "Steps"


class ForEach(Closed):
    """Steps for each item."""

    items: Annotated[list[Any] | StrictStr, either("a list, or ${{ an expression }} that gives one")]
    as_: StrictStr | None = Field(default=None, alias="as", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    index_as: StrictStr | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    concurrency: StrictInt | None = Field(default=None, ge=1)
    batch_size: StrictInt | None = Field(default=None, ge=1)
    fail_fast: StrictBool | None = None
    tolerated_failures: (
        Annotated[StrictInt, Field(ge=0)] | Annotated[StrictStr, Field(pattern=r"^[0-9]{1,3}%$")] | None
    ) = None
    steps: "Steps"


class Do(Closed):
    """Steps of their own."""

    steps: "Steps"
    flow: Literal["Sequence", "DAG"] | None = None
    initial_step: StrictStr | None = None


class Sleep(Closed):
    """A pause: a duration, or an expression for one."""

    duration: Duration | None = None
    expression: StrictStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_shapes(cls, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            return data
        try:
            parse_duration(data)
        except ValueError:
            # What looks like a duration and is none is a mistake, not an expression.
            if not isinstance(data, str) or data[:1].isdigit():
                raise
            return {"expression": data}
        return {"duration": data}


class WaitForEvent(Closed):
    """A wait for events."""

    type: StrictStr = Field(min_length=1)
    source: StrictStr | None = None
    subject: StrictStr | None = None
    filter: StrictStr | None = None
    correlate: dict[str, StrictStr] | None = None
    count: StrictInt | None = Field(default=None, ge=1)
    timeout: Duration | None = None
    on_timeout: Literal["fail", "continue"] | None = None


class Suspend(Closed):
    """A wait to be resumed."""

    reason: StrictStr | None = None
    payload: Any = None
    resume_schema: dict[str, Any] | None = None
    timeout: Duration | None = None
    on_timeout: Literal["fail", "continue", "cancel"] | None = None


class AskedApprovers(Closed):
    """Who may decide, as an Approval has it: of a Run that began when less was refused, too."""

    users: list[StrictStr] | None = None
    groups: list[StrictStr] | None = None
    count: StrictInt | None = Field(default=None, ge=1)


class Approvers(AskedApprovers):
    """Who may decide, as it is declared."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        named = len(set(self.users or ()))
        if self.users and not self.groups and self.count is not None and self.count > named:
            who = "1 user is" if named == 1 else f"{named} users are"
            detail = f"so many can never agree: {who} named, and no group; name more of them, or a group"
            raise shape_error(invalid(self.count, detail, "count"))
        return self


class Approve(Closed):
    """A wait for people's decision."""

    approvers: Approvers | None = None
    message: StrictStr | None = None
    payload: Any = None
    timeout: Duration | None = None
    on_timeout: Literal["approve", "reject", "fail"] | None = None
    on_reject: Literal["fail", "continue"] | None = None


class Emit(Closed):
    """An event to be published."""

    type: StrictStr = Field(min_length=1)
    subject: StrictStr | None = None
    data: Any = None


class Raise(Closed):
    """An error to fail with."""

    type: StrictStr = Field(min_length=1)
    status: StrictInt | None = None
    title: StrictStr | None = None
    detail: StrictStr | None = None


class Catch(Closed):
    """What to do about an error."""

    errors: list[StrictStr] | None = None
    when: StrictStr | None = None
    as_: StrictStr | None = Field(default=None, alias="as")
    steps: "Steps | None" = None
    next: StrictStr | None = None
    output: Any = None


class Compensate(Closed):
    """How to undo a step."""

    steps: "Steps"


class Memoize(Closed):
    """When an earlier value can be reused."""

    key: StrictStr = Field(min_length=1)
    ttl: Duration | None = None
    scope: Literal["run", "workflow", "namespace"] | None = None


class StepMemory(Closed):
    """The thread that an agent or a network goes on with, and whom it belongs to."""

    thread: StrictStr = Field(min_length=1)
    resource: StrictStr | None = None


class Step(Renamed, Closed):
    """One step: an id, exactly one kind, and common fields."""

    also: ClassVar[Mapping[str, str]] = {
        "approval": "approve",
        "after": "dependsOn",
        "with": "input",
        "retries": "retry",
        "retryDelayMs": "retry",
        "onError": "continueOnError",
    }

    id: StrictStr
    name: StrictStr | None = None
    description: StrictStr | None = None
    agent: Ref | None = None
    tool: Ref | None = None
    workflow: Ref | None = None
    network: Ref | None = None
    python: Python | None = None
    parallel: Parallel | None = None
    branch: Branch | None = None
    loop: Loop | None = None
    for_each: ForEach | None = None
    do: Do | None = None
    sleep: Sleep | None = None
    sleep_until: Annotated[StrictStr, Field(min_length=1)] | None = None
    wait_for_event: WaitForEvent | None = None
    suspend: Suspend | None = None
    approve: Approve | None = None
    set: dict[str, Any] | None = None
    emit: Emit | None = None
    raise_: Raise | None = Field(default=None, alias="raise")
    when: StrictStr | None = None
    on_skip: Literal["continue", "skipDependents"] | None = None
    depends_on: list[StrictStr] | StrictStr | None = None
    next: StrictStr | None = None
    input: StepInput | None = None
    output: StepOutput | None = None
    retry: Retry | None = None
    timeout: StepTimeout = None
    catch: list[Catch] | None = None
    compensate: Compensate | None = None
    continue_on_error: StrictBool | None = None
    delivery: Literal["AtLeastOnce", "AtMostOnce"] | None = None
    on_in_doubt: Literal["suspend", "fail", "retry", "probe"] | None = None
    idempotency_key: StrictStr | None = None
    side_effects: Literal["None", "Idempotent", "Unsafe"] | None = None
    memoize: Memoize | None = None
    memory: StepMemory | None = None
    budget: Budget | None = None
    queue: StrictStr | None = None
    priority: StrictInt | None = None
    stream: StrictBool | None = None

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        shaped = dict(data)
        for other, name in (("approval", "approve"), ("after", "dependsOn")):
            if other in shaped:
                if name in shaped:
                    raise shape_error(forbidden(f"another name of {name}, which is also given", other))
                shaped[name] = shaped.pop(other)
        if "with" in shaped:
            given = shaped.get("input")
            if given is not None and not (isinstance(given, Mapping) and not {"from", "with", "type"} & given.keys()):
                raise shape_error(forbidden("exactly one of input and with", "with"))
            shaped["input"] = {**(given or {}), "with": shaped.pop("with")}
        if "retries" in shaped or "retryDelayMs" in shaped:
            if "retry" in shaped:
                raise shape_error(forbidden("another way to write retry, which is also given", "retries"))
            shaped["retry"] = _retry(shaped.pop("retries", None), shaped.pop("retryDelayMs", None))
        on_error = shaped.get("onError")
        if on_error in ("fail", "continue"):
            del shaped["onError"]
            shaped.setdefault("continueOnError", on_error == "continue")
        return shaped


def _retry(limit: Any, delay: Any) -> dict[str, Any]:
    given = {"limit": limit} if limit is not None else {}
    return given if delay is None else {**given, "initialInterval": f"{delay}ms", "backoff": 1}


def step_references(node: Mapping[str, Any], path: str, namespace: str) -> Iterator[Reference]:
    """The references of the steps below a node of the normal form, in order."""
    for name in ("steps", "finally"):
        for index, step in enumerate(node.get(name) or ()):
            yield from _step_references(step, f"{path}.{name}[{index}]", namespace)


def _step_references(step: Mapping[str, Any], path: str, namespace: str) -> Iterator[Reference]:
    for field, kind in REFERENCE_KINDS.items():
        ref = step.get(field)
        if ref:
            yield Reference(f"{path}.{field}", kind, ref["name"], ref.get("namespace") or namespace)
    for field in ("parallel", "loop", "forEach", "do", "compensate"):
        if step.get(field):
            yield from step_references(step[field], f"{path}.{field}", namespace)
    branch = step.get("branch") or {}
    for index, case in enumerate(branch.get("cases") or ()):
        yield from step_references(case, f"{path}.branch.cases[{index}]", namespace)
    if branch.get("default"):
        yield from step_references(branch["default"], f"{path}.branch.default", namespace)
    for index, catch in enumerate(step.get("catch") or ()):
        yield from step_references(catch, f"{path}.catch[{index}]", namespace)
