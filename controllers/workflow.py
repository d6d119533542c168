"""Workflow: steps that run durably, one after the other or as a graph.

How a Workflow is read, and the controller that compiles it and finds out whether everything its steps name can be used.
The schema is `crds/workflows.yaml`. Nothing is executed here.

Read next: `kastra.runtime.view_steps`, the form of a step, then `kastra.engine.compiler`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, StrictInt, StrictStr, model_validator

from kastra.agent.check import step_schemas
from kastra.api.errors import AlreadyExists, Cause, Forbidden, Invalid
from kastra.api.meta import HOLD_SCHEDULES
from kastra.api.types import Reference
from kastra.config import Settings
from kastra.engine.check import Examined, examine_called, examine_workflow
from kastra.engine.compiler_called import Called
from kastra.engine.mailroom import Mailroom
from kastra.runtime.declarative import Context, controller
from kastra.runtime.manager import Manager
from kastra.runtime.namespaces import look_again_when_namespaces_change
from kastra.runtime.readiness import EARLY, Dependencies, examine, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.step_schemas import resume_schemas
from kastra.runtime.triggers.compiled import child_schedules, trigger_findings
from kastra.runtime.triggers.starting import Triggers
from kastra.runtime.view import Fields, View
from kastra.runtime.view_checks import schema_findings
from kastra.runtime.view_errors import forbidden, shape_error
from kastra.runtime.view_steps import RunTimeout, Step, Steps, StepTimeout, step_references
from kastra.runtime.view_triggers import OnlySchedule, OwnSchedules, Trigger
from kastra.runtime.view_types import Budget, Duration, Renamed, Retry
from kastra.tool.check import Unusable, check_function, check_schema
from kastra.tool.schema import schema_problems


class WorkflowInput(Fields):
    """What a Run is given."""

    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    from_: StrictStr | None = Field(default=None, alias="from")


class WorkflowOutput(Fields):
    """What a Run gives."""

    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    as_: Any = Field(default=None, alias="as")


class State(Fields):
    """Values that steps share."""

    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    initial: dict[str, Any] | None = None


class Defaults(Fields):
    """For steps that don't say otherwise."""

    retry: Retry | None = None
    timeout: StepTimeout = None
    delivery: Literal["AtLeastOnce", "AtMostOnce"] | None = None
    namespace: StrictStr | None = None


class Concurrency(Fields):
    """How many Runs and steps at once."""

    max_runs: StrictInt | None = None
    key: StrictStr | None = None
    policy: Literal["Queue", "Reject", "Replace"] | None = None
    max_steps_in_flight: StrictInt | None = None


class Compensation(Fields):
    """How completed steps are undone."""

    order: Literal["reverse", "parallel"] | None = None
    retry: Retry | None = None


class History(Fields):
    """Finished Runs that are kept."""

    successful_runs_limit: StrictInt | None = None
    failed_runs_limit: StrictInt | None = None
    ttl_after_finished: Duration | None = None


class Streaming(Fields):
    """What followers of a Run get."""

    events: list[str] | None = None
    retain: Duration | None = None


class WorkflowSpec(Renamed):
    """The normal form of a Workflow's spec."""

    also: ClassVar[Mapping[str, str]] = {"inputSchema": "input", "outputSchema": "output"}

    name: str | None = None
    description: str | None = None
    version: str | None = None
    flow: Literal["Sequence", "DAG"] | None = None
    initial_step: str | None = None
    steps: list[Step] = Field(min_length=1)
    input: WorkflowInput | None = None
    output: WorkflowOutput | None = None
    state: State | None = None
    defaults: Defaults | None = None
    timeout: RunTimeout = None
    concurrency: Concurrency | None = None
    max_step_executions: StrictInt | None = None
    on_error: Literal["fail", "compensate"] | None = None
    finally_: Steps | None = Field(default=None, alias="finally")
    compensation: Compensation | None = None
    budget: Budget | None = None
    durability: Literal["power", "process", "none"] | None = None
    schedule: OwnSchedules | None = None
    triggers: list[Trigger] | None = None
    history: History | None = None
    streaming: Streaming | None = None
    suspend: bool = False
    rollout: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        shaped = dict(data)
        for other, name in cls.also.items():
            if other in shaped:
                given = shaped.get(name) or {}
                if not isinstance(given, Mapping) or "schema" in given:
                    raise shape_error(forbidden(f"another name of {name}.schema, which is also given", other))
                shaped[name] = {**given, "schema": shaped.pop(other)}
        return shaped

    def plain(self) -> dict[str, Any]:
        """As data for the compiler and the engine; an output that is null on purpose stays."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class WorkflowView(View, kind="Workflow"):
    """A Workflow, read."""

    spec: WorkflowSpec

    def references(self) -> list[Reference]:
        """Every object that a step names, nested steps included."""
        namespace = self.spec.defaults.namespace if self.spec.defaults else None
        return list(step_references(self.spec.plain(), "spec", namespace or ""))

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        return [path for path, _ in examine_workflow(self.spec.plain()).unsupported]


def validate(view: WorkflowView) -> list[Cause]:
    """What is wrong with a Workflow beyond what its schema says: everything that keeps it from being compiled."""
    spec = view.spec
    found = list(examine_workflow(spec.plain()).causes)
    unlisted = any(isinstance(schedule, OnlySchedule) for schedule in spec.schedule or ())
    found += trigger_findings(spec.plain(), unlisted=unlisted)
    for part, path in _schemas(spec):
        if part is not None and part.schema_ is not None:
            found += schema_findings(part.schema_, f"{path}.schema")
    for schema, path in resume_schemas(spec.plain(), "spec"):
        found += schema_findings(schema, path)
    return found


def _schemas(spec: WorkflowSpec) -> list[tuple[WorkflowInput | WorkflowOutput | State | None, str]]:
    return [(spec.input, "spec.input"), (spec.output, "spec.output"), (spec.state, "spec.state")]


LOOK_AGAIN = 30.0
"""Seconds until a workflow whose code is missing is looked at again, since no event tells when that appears."""


@controller(WorkflowView, owns=("Schedule",), watches=("Agent", "Tool", "Workflow", "Network"), concurrency=16)
async def reconcile(workflow: WorkflowView, ctx: Context) -> Result:
    """Compile the workflow and find out whether everything that its steps name can be used."""
    found = await examine(workflow, ctx)
    if found.early:
        return ctx.look_later(EARLY)
    compiled = examine_workflow(workflow.spec.plain())
    refused = await _make_schedules(workflow, ctx)
    ctx.status.graph = None if compiled.causes else {"steps": compiled.steps, "hash": compiled.hash}
    if workflow.spec.suspend:
        return suspended(ctx)
    if compiled.causes:
        return ctx.not_ready("InvalidGraph", listed(f"{cause.field}: {cause.message}" for cause in compiled.causes))
    if compiled.unsupported:
        message = listed(f"{path}: {feature}" for path, feature in compiled.unsupported)
        return ctx.not_ready("UnsupportedFeatures", f"not done by this version: {message}")
    if found.reason:
        return ctx.not_ready(found.reason, found.message)
    mismatches = examine_called(workflow.spec.plain(), _called(found, ctx), schema_problems)
    if mismatches:
        return ctx.not_ready("SchemaMismatch", listed(f"{cause.field}: {cause.message}" for cause in mismatches))
    try:
        for part, path in _schemas(workflow.spec):
            check_schema(part.schema_ if part is not None else None, f"{path}.schema")
        await _check_functions(compiled, workflow.metadata.name, ctx)
    except Unusable as problem:
        return ctx.not_ready(problem.reason, problem.message, requeue_after=LOOK_AGAIN)
    if refused:
        return ctx.not_ready("ChildRefused", refused)
    return ctx.ready(f"{compiled.steps} step{'' if compiled.steps == 1 else 's'}", "Compiled")


def _called(found: Dependencies, ctx: Context) -> dict[str, Called]:
    """The schemas of what the steps call, by the paths of the steps."""
    called = {}
    for path, target in found.resolution.resolved.items():
        view: Any = ctx.view(target.kind).of(target)
        taken, given = step_schemas(target.kind, view.spec.plain(), target.status)
        called[path.rpartition(".")[0]] = Called(f"{target.kind} {target.name}", taken, given)
    return called


async def _make_schedules(workflow: WorkflowView, ctx: Context) -> str:
    """Have a Schedule for each of the Workflow's own, and no other. Why one can't be made; empty if all are."""
    refused = []
    held = HOLD_SCHEDULES in workflow.metadata.annotations
    for child in child_schedules(workflow.metadata.name, workflow.spec.plain(), held=held):
        try:
            await ctx.apply(child)
        except (AlreadyExists, Forbidden, Invalid) as error:
            refused.append(f"Schedule {child['metadata']['name']}: {error.message}")
    # Whatever else may be wrong with the Workflow, what it no longer says is no longer done.
    ctx.keep_only_applied()
    return listed(refused)


async def _check_functions(compiled: Examined, name: str, ctx: Context) -> None:
    """Whether the functions of `python` steps can be called. Raises Unusable."""
    folder = ctx.service(Settings).project
    for path, body in compiled.functions:
        await check_function(name, body, folder, path)


def setup(manager: Manager) -> None:
    """Namespaces decide which references across them are allowed; events start Runs where Runs are executed."""
    look_again_when_namespaces_change(manager, "workflow", "Workflow")
    triggers = Triggers(manager)
    manager.register_service(Triggers, triggers)
    try:
        mailroom = manager.service(Mailroom)
    except LookupError:
        return
    mailroom.listen(triggers.deliver)
