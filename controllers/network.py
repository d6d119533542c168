"""Network: agents, workflows and tools that work on a task together, one chosen after the other.

How a Network is read (its members, written in many ways, become one list; its router and its stops get their defaults),
and the controller that finds out which of its members could act. The schema is `crds/networks.yaml`. No member acts here.

Read next: `kastra.agent.network`, which executes it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from kastra.agent.check import default_problem, missing_credentials
from kastra.agent.network import VARIABLES
from kastra.agent.network_check import unsupported as not_acted_on
from kastra.agent.state import REDUCERS
from kastra.api.errors import Cause
from kastra.api.types import Reference
from kastra.config import Settings
from kastra.model.check import model_findings
from kastra.runtime import model_default, view_inline
from kastra.runtime.closure import UnresolvedReferences
from kastra.runtime.declarative import Context, controller
from kastra.runtime.manager import Manager
from kastra.runtime.namespaces import look_again_when_namespaces_change
from kastra.runtime.readiness import CALLABLE, EARLY, WAITING, Dependencies, examine, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.value_sources import examine_values
from kastra.runtime.view import Fields, View
from kastra.runtime.view_checks import expression_findings, schema_findings
from kastra.runtime.view_errors import duplicate, forbidden, invalid, required, unsupported
from kastra.runtime.view_members import Member, Written
from kastra.runtime.view_types import (
    Budget,
    Duration,
    Memory,
    ModelChoice,
    Ref,
    Renamed,
    Retry,
)

END = "END"
RESERVED_NAMES = (END, "FINISH")
"""What a rule and a routing model write to stop; no member can have these names."""

_KINDS = {"agents": "Agent", "workflows": "Workflow", "tools": "Tool", "networks": "Network"}
_STRATEGIES = {"ai": "router", "sequential": "roundRobin", "round-robin": "roundRobin", "graph": "expression"}


class Rule(Fields):
    """A choice made without asking a model."""

    when: str
    next: str


class InvalidChoice(Fields):
    """What to do when the model names no live member."""

    retries: int = 2
    fallback: Literal["defaultAgent", "END", "fail"] = "defaultAgent"


class Router(Renamed):
    """How the next member is chosen."""

    also: ClassVar[Mapping[str, str]] = {"strategy": "mode"}

    mode: Literal["router", "supervisor", "handoff", "roundRobin", "expression"] = "router"
    model: ModelChoice | None = None
    model_ref: Ref | None = None
    max_steps: int | None = None
    instructions: str | None = None
    rules: list[Rule] = Field(default_factory=list)
    terminate: str | None = None
    allow_repeat: bool = True
    allow_parallel: bool = False
    invalid_choice: InvalidChoice = Field(default_factory=InvalidChoice)
    retry: Retry | None = None
    timeout: Duration | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_the_strategy(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("strategy") in _STRATEGIES:
            return {**data, "strategy": _STRATEGIES[data["strategy"]]}
        return data


class Completion(Fields):
    """A judge that says whether the task is done."""

    model: ModelChoice | None = None
    criteria: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    every_steps: int | None = None


class Stall(Fields):
    """When turns make no progress."""

    window: int = 3
    action: Literal["finish", "fail", "suspend"] = "finish"


class Termination(Fields):
    """When to stop."""

    when: str | None = None
    completion: Completion | None = None
    max_steps: int | None = None
    max_duration: Duration | None = None
    stall: Stall = Field(default_factory=Stall)
    on_limit: Literal["finish", "fail", "suspend"] = "finish"


class State(Fields):
    """Values that members share."""

    persistence: bool = False
    ttl: Duration | None = None
    scope: Literal["run", "thread", "network"] = "run"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    initial: dict[str, Any] = Field(default_factory=dict)
    reducers: dict[str, str] = Field(default_factory=dict)


class Output(Fields):
    """What a Run gives."""

    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class Approval(Fields):
    """Which members people decide on."""

    tools: list[str] | None = None
    policy: str | None = None


class Streaming(Fields):
    """What followers of a Run get."""

    events: list[str] | None = None
    retain: Duration | None = None


class Transcript(Fields):
    """The messages between members."""

    retain: Duration | None = None
    redact: list[str] | None = None


def _joined(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return value


class NetworkSpec(Fields):
    """The normal form of a Network's spec."""

    name: str | None = None
    description: str | None = None
    instructions: Annotated[StrictStr | None, BeforeValidator(_joined)] = None
    agents: list[Member] = Field(default_factory=list)
    workflows: list[Member] = Field(default_factory=list)
    tools: list[Member] = Field(default_factory=list)
    networks: list[Member] = Field(default_factory=list)
    default_agent: str | None = None
    router: Router = Field(default_factory=Router)
    termination: Termination = Field(default_factory=Termination)
    state: State = Field(default_factory=State)
    budget: Budget | None = None
    budget_ref: Ref | None = None
    output: Output | None = None
    memory: Memory | None = None
    approval: Approval | None = None
    streaming: Streaming | None = None
    transcript: Transcript | None = None
    retry: Retry | None = None
    timeout: Duration | None = None
    suspend: bool = False

    @field_validator("agents", "workflows", "tools", "networks", mode="before")
    @classmethod
    def _from_short_shapes(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list) or not info.field_name:
            return value
        return [
            Written(entry, _KINDS[info.field_name], f"spec.{info.field_name}[{index}]")
            for index, entry in enumerate(value)
        ]

    @property
    def members(self) -> list[Member]:
        """Every member, in the order of the lists."""
        return [*self.agents, *self.workflows, *self.tools, *self.networks]

    @property
    def max_steps(self) -> int:
        """Turns at most: the smaller of the two limits; never unlimited."""
        limits = [limit for limit in (self.router.max_steps, self.termination.max_steps) if limit is not None]
        return min(limits, default=2 * len(self.members) + 2)

    def plain(self) -> dict[str, Any]:
        """As data for the execution half: the four lists as one, `members`, and one place for each limit."""
        plain = super().plain()
        plain["members"] = [member for name in _KINDS for member in plain.pop(name)]
        plain["router"]["maxSteps"] = self.max_steps
        plain["termination"].pop("maxSteps", None)
        terminate = plain["router"].pop("terminate", None)
        if terminate is not None:
            plain["termination"]["when"] = terminate
        return plain


class NetworkView(View, kind="Network"):
    """A Network, read."""

    spec: NetworkSpec = Field(default_factory=NetworkSpec)

    def references(self) -> list[Reference]:
        """Everything this network refers to; inline members' references stand below their own path."""
        found = []
        if self.spec.router.model_ref is not None:
            found.append(self.spec.router.model_ref.to("Model", "spec.router.modelRef"))
        for member in self.spec.members:
            if member.ref is not None:
                found.append(Reference(member.path, member.ref.kind, member.ref.name, member.ref.namespace or ""))
            if member.spec is not None:
                found += view_inline.references(member.kind, member.spec, f"{member.path}.spec")
        return found

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        router, found = self.spec.router, [path for path, _ in not_acted_on(self.spec.plain())]
        if router.mode not in model_default.ROUTED_BY_MODEL:
            given = {"model": router.model, "modelRef": router.model_ref, "instructions": router.instructions}
            found += [f"spec.router.{name}" for name, value in given.items() if value is not None]
        return found


def validate(view: NetworkView) -> list[Cause]:
    """What is wrong with a Network beyond what its schema says."""
    spec = view.spec
    found = _members_findings(spec)
    names = [member.name for member in spec.members]
    if spec.default_agent is not None and spec.default_agent not in names:
        found.append(unsupported(spec.default_agent, names, "spec.defaultAgent"))
    found += _router_findings(spec.router, names)
    termination = spec.termination
    if termination.when is not None:
        found += expression_findings(termination.when, "spec.termination.when", VARIABLES)
        if spec.router.terminate is not None:
            found.append(forbidden("another name of termination.when, which is also given", "spec.router.terminate"))
    found += _completion_findings(termination.completion, spec.router)
    for key, reducer in spec.state.reducers.items():
        if reducer not in REDUCERS:
            found.append(unsupported(reducer, REDUCERS, f"spec.state.reducers[{key}]"))
    for schema, path in (
        (spec.state.schema_, "spec.state.schema"),
        (spec.output.schema_ if spec.output else None, "spec.output.schema"),
    ):
        if schema is not None:
            found += schema_findings(schema, path)
    return found


def _completion_findings(completion: Completion | None, router: Router) -> list[Cause]:
    found: list[Cause] = []
    if completion is None:
        return found
    path = "spec.termination.completion"
    if completion.model is not None:
        judge = completion.model
        found += model_findings(judge.provider, judge.name, judge.parameters, f"{path}.model")
    elif router.mode not in model_default.ROUTED_BY_MODEL:
        found.append(required(f"{path}.model", "no model chooses the members, so one must judge"))
    elif completion.every_steps is not None:
        why = "goes with model: the routing model judges whenever it chooses"
        found.append(forbidden(why, f"{path}.everySteps"))
    if completion.schema_ is not None:
        found += schema_findings(completion.schema_, f"{path}.schema")
    return found


def _members_findings(spec: NetworkSpec) -> list[Cause]:
    found: list[Cause] = []
    names = [member.name for member in spec.members]
    if not names:
        found.append(required("spec.agents", "a network needs at least one member"))
    for index, member in enumerate(spec.members):
        if member.name in RESERVED_NAMES:
            found.append(invalid(member.name, "is reserved", f"{member.path}.name"))
        if member.name in names[:index]:
            found.append(duplicate(member.name, f"{member.path}.name"))
        for position, name in enumerate(member.can_handoff_to):
            if name not in names:
                found.append(unsupported(name, names, f"{member.path}.canHandoffTo[{position}]"))
        if member.ref is not None and member.ref.kind not in _KINDS.values():
            found.append(unsupported(member.ref.kind, tuple(_KINDS.values()), f"{member.path}.ref.kind"))
        if member.spec is not None:
            found += view_inline.findings(member.kind, member.spec, f"{member.path}.spec")
        if member.input_schema is not None:
            found += schema_findings(member.input_schema, f"{member.path}.inputSchema")
        if spec.router.mode == "handoff" and member.kind != "Agent":
            found.append(
                invalid(member.kind, "in mode handoff members are Agents, since others can't hand off", member.path)
            )
    return found


def _router_findings(router: Router, names: list[str]) -> list[Cause]:
    found: list[Cause] = []
    if router.model is not None:
        model = router.model
        found += model_findings(model.provider, model.name, model.parameters, "spec.router.model")
        if router.model_ref is not None:
            found.append(forbidden("exactly one of model and modelRef", "spec.router.modelRef"))
    for index, rule in enumerate(router.rules):
        found += expression_findings(rule.when, f"spec.router.rules[{index}].when", VARIABLES)
        if rule.next not in names and rule.next not in RESERVED_NAMES:
            found.append(unsupported(rule.next, [*dict.fromkeys([*names, END])], f"spec.router.rules[{index}].next"))
    if router.mode == "expression" and not router.rules:
        found.append(required("spec.router.rules", "mode expression chooses by rules alone"))
    if router.terminate is not None:
        found += expression_findings(router.terminate, "spec.router.terminate", VARIABLES)
    return found


@controller(
    NetworkView,
    watches=("Agent", "Workflow", "Tool", "Network", "Model", "Secret", "ConfigMap"),
    concurrency=16,
)
async def reconcile(network: NetworkView, ctx: Context) -> Result:
    """Find out which members could act, and whether there is a model to choose among them where one is needed."""
    spec, plain = network.spec, network.spec.plain()
    found = await examine(network, ctx, CALLABLE)
    if found.early:
        return ctx.look_later(EARLY)
    default = await model_default.default_of(ctx, ctx.service(Settings).default_model)
    reason, message = _router_problem(spec, plain, default, network.metadata.namespace)
    if reason == "NoModel" and found.resolution.ok:
        ctx.condition("ResolvedRefs", False, reason, message)
    obstacles = _obstacles(network, ctx, found, default)
    ctx.status.members = [{"name": m.name, "kind": m.kind, "ready": m.name not in obstacles} for m in spec.members]
    ctx.status.member_count, ctx.status.mode = len(spec.members), spec.router.mode
    lost = listed(f"{name}: {why}" for name, why in obstacles.items())
    if obstacles or ctx.object.condition("Degraded") is not None:
        ctx.condition("Degraded", bool(obstacles), "MembersNotReady" if obstacles else "Resolved", lost)
    if spec.suspend:
        return suspended(ctx)
    if features := not_acted_on(plain):
        message = listed(f"{path}: {feature}" for path, feature in features)
        return ctx.not_ready("UnsupportedFeatures", f"not done by this version: {message}")
    if not found.resolution.ok or found.misplaced:
        return ctx.not_ready(found.reason, found.message)
    if reason:
        return ctx.not_ready(reason, message)
    if "spec.router.modelRef" in found.unready:
        return ctx.not_ready(WAITING, f"spec.router.modelRef: {found.unready['spec.router.modelRef']}")
    if len(obstacles) == len(spec.members):
        return ctx.not_ready(WAITING, f"no member is Ready: {lost}")
    if obstacles and (missing := await _missing_deep_down(ctx)):
        return ctx.not_ready(WAITING, missing)
    ready = len(spec.members) - len(obstacles)
    return ctx.ready(f"{ready} of {len(spec.members)} members are Ready", "Resolved")


def _obstacles(network: NetworkView, ctx: Context, found: Dependencies, default: str) -> dict[str, str]:
    """Why members can't act, by name."""
    lost = {item.reference.path: item.message for item in found.resolution.missing if not item.reference.optional}
    lost.update(found.unready)
    obstacles: dict[str, str] = {}
    for member in network.spec.members:
        own = [why for path, why in lost.items() if path == member.path or path.startswith(f"{member.path}.")]
        if member.spec is not None and not own:
            own = _inline_problems(network, ctx, member, found, default)
        if own:
            obstacles[member.name] = own[0]
    return obstacles


def _inline_problems(
    network: NetworkView, ctx: Context, member: Member, found: Dependencies, default: str
) -> list[str]:
    """What keeps an agent that is written inline from being asked: its model, or where its instructions come from."""
    spec = member.spec or {}
    problem = ("", "")
    if model_default.lacks_model(spec):
        problem = _default_problem(default, network.metadata.namespace)
    elif spec.get("model") is not None:
        problem = missing_credentials(spec["model"]["provider"])
    source = spec.get("instructionsFrom")
    sources = [(f"{member.path}.spec.instructionsFrom", source)] if source is not None else []
    values = examine_values(sources, found.resolution, ctx.service(Settings).project, network.metadata.uid)
    return [*([f"{member.path}.spec: {problem[1]}"] if problem[0] else []), *values.missing]


def _router_problem(spec: NetworkSpec, plain: Mapping[str, Any], default: str, namespace: str) -> tuple[str, str]:
    """(reason, message) if members must be chosen by a model and it can't be asked; empty texts if all is well."""
    if spec.router.mode not in model_default.ROUTED_BY_MODEL:
        return "", ""
    if spec.router.model is not None:
        return missing_credentials(spec.router.model.provider)
    if not model_default.router_lacks_model(plain):
        return "", ""
    reason, message = _default_problem(default, namespace)
    # Where there are rules a model may never be asked; but one that can't even be made stops every Run.
    if not reason or (spec.router.rules and reason != "InvalidModel"):
        return "", ""
    return reason, f"spec.router: {message}"


def _default_problem(default: str, namespace: str) -> tuple[str, str]:
    choice = model_default.choice_of(default) or {}
    problem = default_problem(default, choice, f"{model_default.ANNOTATION} on namespace {namespace}")
    return problem if problem[0] else missing_credentials(choice["provider"])


async def _missing_deep_down(ctx: Context) -> str:
    """What keeps Runs of a degraded network from starting: they need every object that members refer to, at any depth."""
    try:
        await ctx.closure()
    except UnresolvedReferences as error:
        return error.resolution.message
    return ""


def setup(manager: Manager) -> None:
    """Namespaces hold the default model and decide which references across them are allowed."""
    look_again_when_namespaces_change(manager, "network", "Network")
