"""From the `processors` and `guardrails` of an Agent to what is applied, with the models that judge and the tools that search.

Ids that are another way to write `spec.memory` are left out here. Read next: `kastra.agent.processors.guards`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kastra.engine.step import StepContext
from kastra.model.chain import ModelEntry
from kastra.tool.toolkit.catalogue import builtins
from kastra.tool.toolkit.kit import WORKSPACE

from .loop import BoundTool
from .models import Lookup, models_of, refuse
from .processors.agents_md import Injecting, Injector
from .processors.caching import Cache, Caching
from .processors.catalogue import MEMORY, declare, phases
from .processors.cost import CostLimit
from .processors.guards import Guards
from .processors.interface import Processor
from .processors.memory_filter import MemoryFilter
from .processors.recovery import ErrorProcessor
from .processors.searching import LOAD, LOAD_SCHEMA, SEARCH, SEARCH_SCHEMA, Searching
from .processors.selection import Selecting, Selection
from .processors.shaping import SINGLE, Shape
from .processors.showing import Batching
from .processors.skill_search import SkillSearching
from .processors.structuring import Structuring
from .services import AgentServices
from .skills.check import added_tools

SIDES = ("input", "output", "error")


def uses(spec: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """`(use, path, list)` of everything that is to be applied around the model; the list is one of `SIDES` or `guardrails`."""
    for index, use in enumerate(spec.get("guardrails") or ()):
        yield use, f"spec.guardrails[{index}]", "guardrails"
    for side in SIDES:
        for index, use in enumerate((spec.get("processors") or {}).get(side) or ()):
            yield use, f"spec.processors.{side}[{index}]", side


def declared(spec: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, str, Processor | Shape | ValueError]]:
    """As `uses`, with what each means, or why it means nothing; without those that are another way to write `memory`."""
    seen: dict[str, str] = {}
    for use, path, side in uses(spec):
        if side in ("input", "output") and use["id"] in MEMORY:
            continue
        try:
            made: Processor | Shape | ValueError = declare(use, path, side)
            if use["id"] in SINGLE and seen.setdefault(use["id"], path) != path:
                made = ValueError(f"{path}.id: there is a {use['id']} already: {seen[use['id']]}")
        except ValueError as error:
            made = error
        yield use, path, side, made


def guards_of(spec: Mapping[str, Any], lookup: Lookup, services: AgentServices, owner: str) -> Guards | None:
    """The processors of a plain spec; None if there are none.

    Raises:
        StepError: one can't be made of what is written (type `validation`).
    """
    if not spec.get("processors") and not spec.get("guardrails"):
        return None
    given: list[Processor] = []
    answered: list[Processor] = []
    judges: dict[str, list[ModelEntry]] = {}
    shapes: list[tuple[str, Shape]] = []

    def models(choice: Mapping[str, Any], path: str) -> list[ModelEntry]:
        return models_of({"model": choice}, lookup, {}, services, f"{path}.config")

    for use, path, side, made in declared(spec):
        if isinstance(made, ValueError):
            raise refuse(f"Agent {owner}: {made}")
        if not isinstance(made, Processor):
            shapes.append((path, made))
            continue
        where = phases(use, given="" if side == "guardrails" else side)
        if "input" in where:
            given.append(made)
        if "output" in where:
            answered.append(made)
        if made.judge is not None:
            judges[path] = models(made.judge.choice, path)
    if not given and not answered and not shapes:
        return None
    selection, structurers, cache, injector = None, list[ModelEntry](), None, None
    for path, made in shapes:
        if isinstance(made, Selecting):
            candidates = {each.name: models(each.choice, path) for each in made.candidates}
            selection = Selection(made, models(made.judge, path), candidates)
        elif isinstance(made, Structuring) and made.choice is not None:
            structurers = models(made.choice, path)
        elif isinstance(made, Caching):
            cache = Cache(made, services.responses, owner)
        elif isinstance(made, Injecting):
            if services.folder is None:
                raise refuse(f"Agent {owner}: {path}: this process has no project folder, so no files can be read")
            injector = Injector(made, services.folder, services.private, _folders(spec, lookup))
    found = [made for _, made in shapes]
    retries = spec.get("maxProcessorRetries")
    return Guards(
        given,
        answered,
        judges,
        retries=1 if retries is None else int(retries),
        recovery=[made for made in found if isinstance(made, ErrorProcessor)],
        costs=[made for made in found if isinstance(made, CostLimit)],
        selection=selection,
        search=next((made for made in found if isinstance(made, Searching)), None),
        cache=cache,
        structuring=next((made for made in found if isinstance(made, Structuring)), None),
        structurers=structurers,
        batching=next((made for made in found if isinstance(made, Batching)), None),
        skill_search=next((made for made in found if isinstance(made, SkillSearching)), None),
        injector=injector,
        memory_filter=next((made for made in found if isinstance(made, MemoryFilter)), None),
    )


def _folders(spec: Mapping[str, Any], lookup: Lookup) -> dict[str, str | None]:
    """Where in the project the paths of an agent's built-in tools count from, by name of the tool; None for nowhere in it."""
    found: dict[str, str | None] = dict.fromkeys(added_tools(spec))
    for index, binding in enumerate(spec.get("tools") or ()):
        if binding.get("mcp") is not None:
            continue
        use = binding.get("builtin")
        if use is None:
            use = lookup(f"spec.tools[{index}]")["spec"].get("builtin")
        tool = None if use is None else builtins().get(str(use.get("name")))
        if use is not None and tool is not None and "folder" in tool.settings:
            found[binding.get("as") or binding["name"]] = use.get("folder") or WORKSPACE
    return found


def with_search(tools: Sequence[BoundTool], guards: Guards | None, owner: str) -> list[BoundTool]:
    """The tools of an agent, with those by which its model finds others, if it has a `tool-search`.

    Raises:
        StepError: a tool of the agent has the name of one of them (type `validation`).
    """
    if guards is None or guards.search is None:
        return list(tools)
    search = guards.search
    for tool in tools:
        if tool.name in search.names:
            raise refuse(
                f"Agent {owner}: tool-search adds a tool {tool.name}, and there is one already: rename it by `as`"
            )
    definitions = [tool.definition() for tool in tools]

    async def find(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        query = arguments.get("query")
        if not isinstance(query, str):
            return {"error": {"type": "validation", "title": f"{SEARCH}: query must be a text"}}
        # Recorded, because a server may offer other tools when the Run is recovered.
        return {"result": await step.decide(key, search.found(definitions, query))}

    async def load(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"result": await step.decide(key, search.load(definitions, str(arguments.get("toolName"))))}
        except LookupError as error:
            return {"error": {"type": "tool", "title": str(error.args[0])}}

    added = [
        BoundTool(
            SEARCH,
            "Finds tools by what they do. There are tools that you are not told of; look for one before you say that something "
            "can't be done.",
            SEARCH_SCHEMA,
            find,
        ),
        BoundTool(LOAD, f"Makes a tool that {SEARCH} found available from your next turn on.", LOAD_SCHEMA, load),
    ]
    return [*tools, *(tool for tool in added if tool.name in search.names)]
