"""What does an Agent's spec say of memory? From `memory` and `context.compaction` to how it remembers.

Read next: `kastra.agent.memory`, which does.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kastra.api.errors import FORBIDDEN, INVALID, Cause
from kastra.api.types import ClosureObject
from kastra.engine.step import StepContext, StepError
from kastra.memory.interface import MemorySpec, ThreadKey
from kastra.model.check import model_findings
from kastra.model.embedding import create_embedder
from kastra.tool.schema import JsonSchema

from .loop import Agent, AgentResult, answer
from .memory import AgentMemory, Compaction, converse
from .models import Lookup, config_of, models_of, refuse
from .services import AgentServices
from .titles import INSTRUCTIONS, Titling

if TYPE_CHECKING:
    from .assembly import Assembly

RECALL = "spec.memory.semanticRecall"
TITLE = "spec.memory.generateTitle"


async def memory_of(
    spec: Mapping[str, Any],
    lookup: Lookup,
    objects: Mapping[str, ClosureObject],
    assembly: "Assembly",
    name: str,
) -> AgentMemory | None:
    """How an agent with this plain spec remembers; None if it says nothing of it.

    Raises:
        StepError: it can't be made of what is written (type `validation`).
    """
    given = spec.get("memory")
    if given is None:
        return None
    compaction, summarizer = (spec.get("context") or {}).get("compaction"), None
    limits = None
    if compaction is not None:
        overlap = compaction.get("overlap")
        limits = Compaction(
            compaction.get("tokenThreshold"), compaction.get("interval"), 1 if overlap is None else int(overlap)
        )
        if compaction.get("summarizer") is not None:
            summarizer = await assembly.agent(lookup("spec.context.compaction.summarizer"), objects)
    remembered = MemorySpec.of(given, compacted=limits is not None)
    try:
        if remembered.working is not None and remembered.working.schema is not None:
            JsonSchema(remembered.working.schema, "spec.memory.workingMemory.schema")
        embedder, model = None, ""
        if remembered.recall is not None:
            config = config_of(given["semanticRecall"], lookup, objects, assembly.services, RECALL, "embedder")
            if config is not None:
                embedder = create_embedder(config, assembly.services.for_models())
                # Vectors of one model with other settings may have another length.
                model = f"{config.provider}/{config.name}/{config.parameters.get('dimensions', '')}"
    except ValueError as error:
        raise refuse(f"Agent {name}: {error}") from None
    titling = _titling(given.get("generateTitle"), lookup, assembly.services)
    return AgentMemory(remembered, limits, embedder, model, summarizer, titling, assembly.services.titles)


def _titling(given: Mapping[str, Any] | None, lookup: Lookup, services: AgentServices) -> Titling | None:
    if given is None or given.get("enabled") is False:
        return None
    choice = given.get("model")
    models = [] if choice is None else models_of({"model": choice}, lookup, {}, services, TITLE)
    return Titling(models, given.get("instructions") or INSTRUCTIONS, int(given.get("minMessages") or 1))


async def answer_in(
    agent: Agent,
    step: StepContext,
    value: Any,
    assembly: "Assembly",
    thread: ThreadKey | None,
    parameters: Mapping[str, Any] | None = None,
) -> AgentResult:
    """The agent's answer, in a thread if one is given.

    Raises:
        StepError: there is no answer, or nothing here remembers.
    """
    services = assembly.services
    if agent.skills is not None:
        agent = replace(agent, told=await agent.skills.told(step))
    if thread is None:
        result = await answer(agent, step, value, services.clock, parameters)
    elif services.memory is None:
        raise StepError("validation", "nothing is remembered here: that takes a store", retryable=False)
    else:
        result = await converse(agent, step, value, services.clock, services.memory, thread, parameters)
    return result if agent.scoring is None else await agent.scoring.scored(step, result)


def unsupported_memory(spec: Mapping[str, Any]) -> list[str]:
    """Paths of what a plain Agent spec says of memory and this version accepts without acting on it."""
    memory = spec.get("memory")
    context = ["spec.context"] if spec.get("context") is not None else []
    if memory is None or memory.get("enabled") is False:
        return context
    found = [f"spec.memory.{field}" for field in ("type", "ref") if memory.get(field) is not None]
    recall = memory.get("semanticRecall")
    if (
        recall is not None
        and recall.get("enabled") is not False
        and recall.get("embedder") is None
        and recall.get("modelRef") is None
    ):
        found.append(RECALL)
    return found


def memory_findings(spec: Mapping[str, Any]) -> list[Cause]:
    """What is wrong with what a plain Agent spec says of memory."""
    memory = spec.get("memory") or {}
    working, recall = memory.get("workingMemory") or {}, memory.get("semanticRecall") or {}
    history = memory.get("messageHistory") or {}
    found: list[Cause] = []
    if working.get("template") is not None and working.get("schema") is not None:
        found.append(_forbidden("exactly one of template and schema", "spec.memory.workingMemory.schema"))
    if recall.get("embedder") is not None:
        embedder = recall["embedder"]
        if recall.get("modelRef") is not None:
            found.append(_forbidden("exactly one of embedder and modelRef", f"{RECALL}.modelRef"))
        name, parameters = embedder.get("name") or "", embedder.get("parameters") or {}
        if embedder["provider"] != "scripted":
            found += model_findings(embedder["provider"], name, parameters, f"{RECALL}.embedder")
    title = (memory.get("generateTitle") or {}).get("model")
    if title is not None:
        found += model_findings(
            title["provider"], title.get("name") or "", title.get("parameters") or {}, f"{TITLE}.model"
        )
    most, removed = history.get("maxTokens"), history.get("atMaxRemoveTokens")
    if removed is not None and (most is None or removed >= most):
        why = "must be less than maxTokens" if most is not None else "goes with maxTokens"
        found.append(Cause(INVALID, f"Invalid value: {removed}: {why}", "spec.memory.messageHistory.atMaxRemoveTokens"))
    return found


def _forbidden(why: str, path: str) -> Cause:
    return Cause(FORBIDDEN, f"Forbidden: {why}", path)
