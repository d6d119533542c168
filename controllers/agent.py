"""Agent: a prompt, a model and the tools it may call.

How an Agent is read, and the controller that finds out whether it could be asked. Every shape in which its tools, model,
instructions and memory can be written becomes one here, and only this form is read by what executes agents. The schema is
`crds/agents.yaml`. No model is asked here.

Read next: `kastra.runtime.readiness`, then `kastra.runtime.view_types`, the values a view is made of.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, StrictInt, StrictStr, field_validator, model_validator

from kastra.agent.check import (
    called_schema,
    default_problem,
    fallbacks_without_key,
    missing_credentials,
    model_name,
    shown_names,
)
from kastra.agent.knowing import TOOL as KNOWLEDGE
from kastra.agent.loop_check import loop_findings
from kastra.agent.remembering import RECALL, memory_findings, unsupported_memory
from kastra.agent.scorers.catalogue import scorer_findings, unsupported_scorers
from kastra.agent.servers import reported
from kastra.agent.skills.check import added_tools, skill_findings
from kastra.agent.skills.looking import looked_at
from kastra.api.errors import Cause
from kastra.api.types import Reference
from kastra.config import Settings
from kastra.model.check import model_findings, plugin_problem
from kastra.runtime import model_default
from kastra.runtime.declarative import Context as Pass
from kastra.runtime.declarative import controller
from kastra.runtime.manager import Manager
from kastra.runtime.namespaces import look_again_when_namespaces_change
from kastra.runtime.readiness import CALLABLE, EARLY, WAITING, Dependencies, examine, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.value_sources import examine_values
from kastra.runtime.view import Fields, View
from kastra.runtime.view_bindings import Bindings, Instructions, ToolBinding
from kastra.runtime.view_checks import schema_findings, template_findings
from kastra.runtime.view_choice import ToolChoice
from kastra.runtime.view_errors import duplicate, forbidden, invalid, required, shape_error
from kastra.runtime.view_memory import with_memory
from kastra.runtime.view_skills import SkillUse
from kastra.runtime.view_steps import Approvers
from kastra.runtime.view_types import (
    AllowedNamespaces,
    Closed,
    Duration,
    Fallback,
    Memory,
    ModelChoice,
    Ref,
    Renamed,
    ValueFrom,
    read,
)
from kastra.tool.check import Unusable, check_builtin, check_schema, schema_hash
from kastra.tool.toolkit.body import signature
from kastra.tool.toolkit.catalogue import GROUPS, heeded, members, named
from kastra.tool.toolkit.catalogue import problem as builtin_problem

DEFAULT_MAX_STEPS = 5
EVERY, AGAIN = 600.0, 30.0
"""Seconds until the files of skills are looked at again, without and with something wrong."""
MOST_SHOWN = 100
"""Skills that the status names."""


class Compaction(Fields):
    """When and how older messages are summarised."""

    interval: int | None = None
    overlap: int | None = None
    token_threshold: int | None = None
    summarizer: Ref | None = None


class Context(Fields):
    """How the messages sent to the model are kept short."""

    compaction: Compaction | None = None


class ProcessorUse(Closed):
    """A processor by id; a text is the id."""

    id: StrictStr = Field(min_length=1)
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_id(cls, data: Any) -> Any:
        return {"id": data} if isinstance(data, str) else data


class Processors(Fields):
    """Processors around the model, in order."""

    input: list[ProcessorUse] = Field(default_factory=list)
    output: list[ProcessorUse] = Field(default_factory=list)
    error: list[ProcessorUse] = Field(default_factory=list)


class Sampling(Closed):
    """Which calls are scored."""

    type: Literal["none", "ratio"] = "none"
    rate: float | None = Field(default=None, ge=0, le=1)


class ScorerUse(Closed):
    """A scorer by name; a text is the name."""

    scorer: StrictStr = Field(min_length=1)
    config: dict[str, Any] | None = None
    sampling: Sampling | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"scorer": data} if isinstance(data, str) else data


class Approval(Fields):
    """Which tool calls people decide on."""

    tools: list[str] | None = None
    policy: str | None = None
    approvers: Approvers | None = None
    timeout: Duration | None = None
    on_timeout: Literal["approve", "reject", "fail"] | None = None


class Scaling(Fields):
    """Concurrent runs: slots in one process, replicas in a cluster."""

    min_replicas: int = 1
    max_replicas: int = 10

    @model_validator(mode="before")
    @classmethod
    def _keep_the_default_above_the_minimum(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("minReplicas"), int) and "maxReplicas" not in data:
            return {**data, "maxReplicas": max(10, data["minReplicas"])}
        if isinstance(data, Mapping) and isinstance(data.get("maxReplicas"), int) and "minReplicas" not in data:
            return {**data, "minReplicas": min(1, data["maxReplicas"])}
        return data


_ONE_TO_TEN = Scaling()
"""Of every Agent that says nothing of it: shared, since it can't be changed."""


class Probes(Fields):
    """Questions asked to find out whether the agent works."""

    readiness: dict[str, Any] | None = None
    liveness: dict[str, Any] | None = None


class Rollout(Fields):
    """How a new revision replaces the old one."""

    steps: list[dict[str, Any]] | None = None
    gate: dict[str, Any] | None = None
    auto_rollback: bool | None = None


class A2A(Fields):
    """Whether the agent answers the A2A protocol."""

    enabled: bool | None = None
    skills: list[Any] | None = None


class AgentSpec(Renamed):
    """The normal form of an Agent's spec."""

    also: ClassVar[Mapping[str, str]] = {"name": "displayName", "systemPrompt": "instructions"}

    display_name: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    instructions: Instructions = Field(default_factory=list)
    instructions_from: ValueFrom | None = None
    model: ModelChoice | None = None
    model_ref: Ref | None = None
    fallbacks: list[Fallback] = Field(default_factory=list)
    max_retries: StrictInt = Field(default=0, ge=0)
    tools: Bindings = Field(default_factory=list)
    memory: Memory | None = None
    knowledge: list[Ref] | None = None
    skills: list[SkillUse] | None = None
    output_schema: dict[str, Any] | None = None
    max_steps: int = Field(default=DEFAULT_MAX_STEPS, ge=1)
    tool_choice: ToolChoice | None = None
    tool_call_concurrency: int | None = Field(default=None, ge=1)
    stop_when: str | None = None
    timeout: Duration | None = None
    context: Context | None = None
    processors: Processors | None = None
    max_processor_retries: int | None = Field(default=None, ge=0)
    guardrails: list[ProcessorUse] | None = None
    scorers: list[ScorerUse] | None = None
    approval: Approval | None = None
    budget_ref: Ref | None = None
    allowed_namespaces: AllowedNamespaces | None = None
    scaling: Scaling = Field(default_factory=lambda: _ONE_TO_TEN)
    probes: Probes | None = None
    rollout: Rollout | None = None
    voice: dict[str, Any] | None = None
    a2a: A2A | None = Field(default=None, alias="a2a")
    suspend: bool = False

    @field_validator("tools", mode="after")
    @classmethod
    def _take_groups_apart(cls, tools: list[ToolBinding]) -> list[ToolBinding]:
        # What a group adds comes last, so that a tool keeps the place at which it is written.
        added: list[ToolBinding] = []
        listed: list[ToolBinding] = []
        for index, tool in enumerate(tools):
            first, *rest = _members(tool, index)
            listed.append(first)
            added += rest
        return [*listed, *added]

    @model_validator(mode="before")
    @classmethod
    def _take_memory_from_processors(cls, data: Any) -> Any:
        return with_memory(data)

    @model_validator(mode="before")
    @classmethod
    def _split_a_list_of_models(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("model"), list):
            return data
        models = [read(Fallback, entry, f"model[{index}]").plain() for index, entry in enumerate(data["model"])]
        if not models:
            raise shape_error(required("model", "a list of models needs at least one"))
        first, *rest = models
        shaped = {**data, "fallbacks": [*rest, *data.get("fallbacks", ())]}
        del shaped["model"]
        if "maxRetries" in first:
            shaped.setdefault("maxRetries", first.pop("maxRetries"))
        first.pop("enabled", None)
        if "modelRef" in first:
            shaped["modelRef"] = first["modelRef"]
        else:
            shaped["model"] = first
        return shaped


def _members(tool: ToolBinding, index: int) -> list[ToolBinding]:
    """A binding as it is, or one for each tool of the group of built-in tools that it names."""
    use = tool.builtin
    if use is None or use.name not in GROUPS:
        return [tool]
    field, message = builtin_problem(use.name, use.settings, group=True)
    if message:
        raise shape_error(invalid(use.plain().get(field), message, f"[{index}].builtin.{field}"))
    for fixed in ("as", "preset"):
        if tool.plain().get(fixed):
            raise shape_error(forbidden(f"{use.name} is a group of tools; name one of them", f"[{index}].{fixed}"))
    shared = {"requireApproval": tool.require_approval}
    return [
        ToolBinding.model_validate(
            {"name": member.shown, "builtin": {"name": member.name, **heeded(member, use.settings)}, **shared}
        )
        for member in members(use.name, use.settings)
    ]


class AgentView(View, kind="Agent"):
    """An Agent, read."""

    spec: AgentSpec = Field(default_factory=AgentSpec)

    def references(self) -> list[Reference]:
        """Everything this agent refers to; paths are those of the normal form."""
        spec = self.spec
        found = []
        if spec.model_ref is not None:
            found.append(spec.model_ref.to("Model", "spec.modelRef"))
        for index, fallback in enumerate(spec.fallbacks):
            if fallback.model_ref is not None:
                found.append(fallback.model_ref.to("Model", f"spec.fallbacks[{index}].modelRef"))
        found += [
            tool.reference(f"spec.tools[{index}]") for index, tool in enumerate(spec.tools) if tool.builtin is None
        ]
        found += [
            base.to("KnowledgeBase", f"spec.knowledge[{index}]") for index, base in enumerate(spec.knowledge or ())
        ]
        for index, use in enumerate(spec.skills or ()):
            found += use.references(f"spec.skills[{index}]")
        if spec.context and spec.context.compaction and spec.context.compaction.summarizer:
            found.append(spec.context.compaction.summarizer.to("Agent", "spec.context.compaction.summarizer"))
        if spec.memory and spec.memory.semantic_recall and spec.memory.semantic_recall.model_ref:
            found.append(spec.memory.semantic_recall.model_ref.to("Model", f"{RECALL}.modelRef"))
        return [*found, *self.sources()]

    def sources(self) -> list[Reference]:
        """The Secret or ConfigMap whose value this agent uses."""
        source = self.spec.instructions_from
        return source.sources("spec.instructionsFrom") if source is not None else []

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        spec = self.spec
        found = [f"spec.{path}" for name, path in _NOT_ACTED_ON.items() if name in spec.model_fields_set]
        if spec.approval is not None and spec.approval.policy is not None:
            found.append("spec.approval.policy")
        return [*found, *unsupported_memory(spec.plain()), *unsupported_scorers(spec.plain())]


_NOT_ACTED_ON = {
    "budget_ref": "budgetRef",
    "scaling": "scaling",
    "probes": "probes",
    "rollout": "rollout",
    "voice": "voice",
    "a2a": "a2a",
}


def validate(view: AgentView) -> list[Cause]:
    """What is wrong with an Agent beyond what its schema says."""
    spec = view.spec
    found: list[Cause] = []
    if spec.model is not None:
        found += model_findings(spec.model.provider, spec.model.name, spec.model.parameters, "spec.model")
        if spec.model_ref is not None:
            found.append(forbidden("exactly one of model and modelRef", "spec.modelRef"))
    if spec.instructions and spec.instructions_from is not None:
        found.append(forbidden("exactly one of instructions and instructionsFrom", "spec.instructionsFrom"))
    for index, fallback in enumerate(spec.fallbacks):
        if (choice := fallback.choice) is not None:
            found += model_findings(choice.provider, choice.name, choice.parameters, f"spec.fallbacks[{index}]")
    for index, text in enumerate(spec.instructions):
        path = "spec.instructions" if len(spec.instructions) == 1 else f"spec.instructions[{index}]"
        found += template_findings(text, path, ("input", "context"))
    seen: set[str] = set()
    for index, tool in enumerate(spec.tools):
        name = tool.as_ or tool.name
        if name in seen:
            found.append(duplicate(name, f"spec.tools[{index}].{'as' if tool.as_ else 'name'}"))
        seen.add(name)
        if tool.builtin is not None:
            field, message = builtin_problem(tool.builtin.name, tool.builtin.settings, group=False)
            if message:
                found.append(invalid(tool.builtin.plain().get(field), message, f"spec.tools[{index}].builtin.{field}"))
    if spec.knowledge:
        seen.add(KNOWLEDGE)
    found += skill_findings(spec.plain(), seen) + scorer_findings(spec.plain())
    seen.update(added_tools(spec.plain()))
    if spec.output_schema is not None:
        found += schema_findings(spec.output_schema, "spec.outputSchema")
    found += memory_findings(spec.plain())
    if spec.memory and spec.memory.working_memory and spec.memory.working_memory.schema_ is not None:
        found += schema_findings(spec.memory.working_memory.schema_, "spec.memory.workingMemory.schema")
    return found + loop_findings(spec.plain(), seen)


@controller(
    AgentView,
    watches=("Model", "Tool", "Agent", "Workflow", "Network", "MCPServer", "KnowledgeBase", "Secret", "ConfigMap"),
    concurrency=16,
)
async def reconcile(agent: AgentView, ctx: Pass) -> Result:
    """Find out whether the agent could be asked: its model and the key to it, its tools, its instructions."""
    spec = agent.spec
    found = await examine(agent, ctx, CALLABLE)
    if found.early:
        return ctx.look_later(EARLY)
    _report_tools(agent, ctx, found)
    unread = await _check_skills(agent, ctx, found)
    reason, message = await _check_model(agent, ctx, found)
    if spec.suspend:
        return suspended(ctx)
    if found.reason or reason:
        return ctx.not_ready(found.reason or reason, found.message if found.reason else message)
    source = spec.instructions_from
    sources = [("spec.instructionsFrom", source.plain())] if source is not None else []
    missing = examine_values(sources, found.resolution, ctx.service(Settings).project, agent.metadata.uid).missing
    if missing:
        return ctx.not_ready("ValueNotFound", listed(missing))
    files = any(use.file is not None for use in spec.skills or ())
    if unread[0]:
        return ctx.not_ready(*unread, requeue_after=AGAIN if files else None)
    try:
        check_schema(spec.output_schema, "spec.outputSchema")
        for index, tool in enumerate(spec.tools):
            if tool.builtin is not None:
                check_builtin(tool.builtin.plain(), ctx.service(Settings).project, f"spec.tools[{index}].builtin")
    except Unusable as problem:
        return ctx.not_ready(problem.reason, problem.message)
    ctx.ready(f"{ctx.status.model_resolved}; {found.message}", "Resolved")
    return Result(requeue_after=EVERY if files else None)


def _report_tools(agent: AgentView, ctx: Pass, found: Dependencies) -> None:
    tools = []
    plain = agent.spec.plain()
    gone: list[str] = []
    for index, name in enumerate(shown_names(plain)):
        target = found.resolution.resolved.get(f"spec.tools[{index}]")
        if target is not None and target.kind == "MCPServer":
            entries, problems = reported(
                plain["tools"][index], f"MCPServer/{target.namespace}/{target.name}", target.status
            )
            tools += entries
            gone += problems
            continue
        entry = {"name": name, "resolved": ""}
        builtin = agent.spec.tools[index].builtin
        if builtin is not None and named(builtin.name):
            entry |= {"resolved": f"builtin/{builtin.name}", "schemaHash": schema_hash(signature(builtin.name).schema)}
        if target is not None:
            entry["resolved"] = f"{target.kind}/{target.namespace}/{target.name}"
            known = target.status.get("schemaHash")
            if target.kind != "Tool" and target.kind in CALLABLE:
                view: Any = ctx.view(target.kind).of(target)
                known = schema_hash(called_schema(target.kind, view.spec.plain()))
            if known:
                entry["schemaHash"] = known
        tools.append(entry)
    ctx.status.tools, ctx.status.tool_count = tools, len(tools)
    lost = [item.message for item in found.resolution.missing if item.reference.path.startswith("spec.tools[")]
    if lost or (not gone and tools):
        ctx.condition("ToolsResolved", not lost, "NotFound" if lost else "Resolved", listed(lost))
    elif gone:
        ctx.condition("ToolsResolved", False, "ToolNotFound", listed(gone))
    elif ctx.object.condition("ToolsResolved") is not None:
        ctx.condition("ToolsResolved", True, "Resolved", "no tools")


async def _check_skills(agent: AgentView, ctx: Pass, found: Dependencies) -> tuple[str, str]:
    """Say which skills there are. Returns reason and message of what is wrong with them, or empty texts."""
    spec = agent.spec
    if not spec.skills:
        ctx.status.skills = None
        if ctx.object.condition("SkillsResolved") is not None:
            ctx.condition("SkillsResolved", True, "Resolved", "no skills")
        return "", ""
    resolved, settings = found.resolution.resolved, ctx.service(Settings)
    shelf = await looked_at(spec.plain(), agent.metadata.namespace, resolved, settings)
    shown = [{"name": skill.name, "source": skill.folder.where} for skill in shelf.skills.values()]
    ctx.status.skills = shown[:MOST_SHOWN] or None
    reason = shelf.reason if shelf.problems else ""
    ctx.condition("SkillsResolved", not reason, reason or "Resolved", shelf.wrong or f"{len(shown)} skills")
    return reason, shelf.wrong


async def _check_model(agent: AgentView, ctx: Pass, found: Dependencies) -> tuple[str, str]:
    """Say which model is used and whether its key is there. Returns reason and message of what is wrong, or empty texts."""
    spec = agent.spec
    lost = fallbacks_without_key(spec.plain())
    if lost or ctx.object.condition("Degraded") is not None:
        ctx.condition("Degraded", bool(lost), "MissingCredentials" if lost else "Resolved", listed(lost))
    if spec.model is None and spec.model_ref is not None:
        model = found.resolution.resolved.get("spec.modelRef")
        ctx.status.model_resolved = None
        if model is not None:
            choice = {"provider": model.status.get("provider", ""), "name": model.spec.get("name")}
            ctx.status.model_resolved = model_name(choice)
        why = found.unready.get("spec.modelRef", "" if model is not None else "spec.modelRef leads nowhere")
        ctx.condition("ModelReachable", not why, WAITING if why else "Resolved", why)
        return "", ""
    if spec.model is not None:
        choice, problem = spec.model.plain(), missing_credentials(spec.model.provider)
    else:
        text = await model_default.default_of(ctx, ctx.service(Settings).default_model)
        choice = model_default.choice_of(text) or {}
        problem = default_problem(text, choice, f"{model_default.ANNOTATION} on namespace {agent.metadata.namespace}")
        if problem[0] and found.resolution.ok:
            ctx.condition("ResolvedRefs", False, *problem)
        problem = problem if problem[0] else missing_credentials(choice["provider"])
    if not problem[0] and (failure := await plugin_problem(choice["provider"])):
        problem = "PluginFailed", failure
    ctx.status.model_resolved = model_name(choice) if choice else None
    ctx.condition("ModelReachable", not problem[0], problem[0] or "CredentialsFound", problem[1])
    return problem


def setup(manager: Manager) -> None:
    """Namespaces hold the default model and decide which references across them are allowed."""
    look_again_when_namespaces_change(manager, "agent", "Agent")
