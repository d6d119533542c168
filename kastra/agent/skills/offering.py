"""How does a model get to an agent's skills? It is told of them, and reads those that it needs by a tool.

    without skill-search   the system's message lists names and descriptions; `skill` gives the instructions of one
    with skill-search      nothing is listed; `search_skills` finds some by words, `load_skill` gives the instructions of one

`skill_read` gives other files of a skill in both. What is listed, found and read is journaled like the outcome of any tool, so a Run
that is taken up again goes on with the same. A skill that can't be read ends the answer before a model is asked; one that breaks
later fails the call that would read it.

Source: progressive disclosure as in Agent Skills; the names of tools are those of Mastra. Read next: `kastra.agent.skills.shelf`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kastra.agent.loop import BoundTool, CallTool
from kastra.agent.models import refuse
from kastra.agent.processors.searching import rank
from kastra.agent.processors.skill_search import SkillSearching
from kastra.engine.step import CallOptions, Effect, StepContext
from kastra.tool.interface import ToolError
from kastra.tool.schema import JsonSchema

from .check import READ, SEARCH, SEARCHED_LOAD, SKILL, tool_names
from .shelf import MOST_LISTED, MOST_SKILLS, Shelf, read_shelf

if TYPE_CHECKING:
    from kastra.agent.services import AgentServices

_SHOWN = 300
"""Characters of a description that a search gives."""
_MAX_QUERY = 1000
_LISTED = (
    "Skills are instructions for certain tasks. When one of these is for what you are asked, call {tool} with its name before anything "
    "else, and follow what it says. Skills are no tools themselves."
)
_SEARCHED = (
    "There are skills: instructions for certain tasks. Before you work on a task, call {search} with words that say what it is about. "
    "If one is for it, call {tool} with its name, and follow what it says."
)

Work = Callable[[Mapping[str, Any], Shelf], Any]


@dataclass(frozen=True, slots=True)
class Skills:
    """The skills of one agent.

    Args:
        uses: its `skills`, in normal form.
        namespace: of the agent.
        owner: the agent, for messages.
        services: read files and ConfigMaps.
        searching: how skills are looked for; None if all are listed.
    """

    uses: Sequence[Mapping[str, Any]]
    namespace: str
    owner: str
    services: "AgentServices"
    searching: SkillSearching | None = None

    async def shelf(self) -> Shelf:
        """The skills as they are now, and what is wrong with those that can't be read."""
        services, most = self.services, MOST_LISTED if self.searching is None else MOST_SKILLS
        return await read_shelf(
            self.uses, self.namespace, services.folder, services.private, services.config_maps, most
        )

    async def told(self, step: StepContext) -> str:
        """What stands behind the instructions; one effect, `skills`.

        Raises:
            StepError: a skill can't be read (type `validation`).
        """

        async def look(_effect: Effect) -> dict[str, Any]:
            shelf = await self.shelf()
            if shelf.problems:
                raise refuse(f"Agent {self.owner}: {shelf.wrong}")
            found = shelf.skills.values()
            if self.searching is not None:
                return {"count": len(found)}
            return {"skills": [{"name": skill.name, "description": skill.description} for skill in found]}

        seen: Mapping[str, Any] = await step.call("skills", look)
        if self.searching is not None:
            return _SEARCHED.format(search=SEARCH, tool=SEARCHED_LOAD)
        lines = [f"- {skill['name']}: {skill['description']}" for skill in seen["skills"]]
        return "\n".join((_LISTED.format(tool=SKILL), *lines))

    def tools(self, taken: Collection[str], approved: Collection[str]) -> list[BoundTool]:
        """The tools by which a model gets to them.

        Args:
            taken: names of the agent's other tools.
            approved: names of tools whose calls people decide on.

        Raises:
            StepError: a tool of the agent has the name of one of them (type `validation`).
        """
        for name in tool_names(self.searching is not None):
            if name in taken:
                raise refuse(
                    f"Agent {self.owner}: spec.skills adds a tool {name}, and there is one already: rename it by `as`"
                )
        read = self._tool(READ, "Gives a file of a skill, or some lines of it.", _READ_FORM, _read, approved)
        if self.searching is None:
            about = "Gives the instructions of a skill, and which files it has."
            return [self._tool(SKILL, about, _form("name", "Name of the skill."), _told("name"), approved), read]
        about = "Finds skills by what they are for."
        find = self._tool(
            SEARCH, about, _form("query", "Words that say what it is about."), self.searching_for, approved
        )
        about = f"Gives the instructions of a skill that {SEARCH} found, and which files it has."
        form = _form("skillName", "Name of the skill.")
        return [find, self._tool(SEARCHED_LOAD, about, form, _told("skillName"), approved), read]

    def searching_for(self, arguments: Mapping[str, Any], shelf: Shelf) -> dict[str, Any]:
        """The result of a search."""
        assert self.searching is not None
        skills = list(shelf.skills.values())
        texts = [f"{skill.name} {skill.name} {skill.description} {skill.instructions}" for skill in skills]
        ranked = rank(arguments["query"][:_MAX_QUERY], texts)
        best = ranked[0][1] if ranked else 0.0
        chosen = [skills[at] for at, score in ranked[: self.searching.most] if score / best >= self.searching.least]
        return {"skills": [{"name": skill.name, "description": skill.description[:_SHOWN]} for skill in chosen]}

    def _tool(self, name: str, about: str, form: Mapping[str, Any], work: Work, approved: Collection[str]) -> BoundTool:
        return BoundTool(name, about, form, self._call(name, form, work), require_approval=name in approved)

    def _call(self, name: str, form: Mapping[str, Any], work: Work) -> CallTool:
        checked = JsonSchema(form, name)

        async def call(step: StepContext, key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            async def perform(_effect: Effect) -> dict[str, Any]:
                if problems := checked.problems(arguments):
                    return _failed("validation", f"arguments of {name}: {'; '.join(problems)}"[:1000])
                try:
                    return {"result": work(arguments, await self.shelf())}
                except ToolError as error:
                    return _failed(error.type, error.message)

            described = {"tool": name, "arguments": dict(arguments)}
            outcome: dict[str, Any] = await step.call(key, perform, CallOptions("tool", describe=described))
            return outcome

        return call


def _told(field: str) -> Work:
    def work(arguments: Mapping[str, Any], shelf: Shelf) -> str:
        return shelf.named(arguments[field]).told()

    return work


def _read(arguments: Mapping[str, Any], shelf: Shelf) -> str:
    skill = shelf.named(arguments["skillName"])
    return skill.lines(arguments["path"], arguments.get("startLine", 1), arguments.get("endLine"))


def _failed(type_: str, title: str) -> dict[str, Any]:
    return {"error": {"type": type_, "title": title}}


def _form(field: str, about: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field: {"type": "string", "description": about}},
        "required": [field],
        "additionalProperties": False,
    }


_READ_FORM: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "skillName": {"type": "string", "description": "Name of the skill."},
        "path": {"type": "string", "description": "Path of the file within the skill, such as references/forms.md."},
        "startLine": {"type": "integer", "minimum": 1, "description": "First line, from 1."},
        "endLine": {"type": "integer", "minimum": 1, "description": "Last line."},
    },
    "required": ["skillName", "path"],
    "additionalProperties": False,
}
