"""What can be said of an Agent's `skills` before anybody asks it, and which tools do they add?

Reads nothing. Read next: `kastra.agent.skills.offering`.
"""

from collections.abc import Collection, Mapping
from typing import Any

from kastra.api.errors import INVALID, Cause
from kastra.tool.interface import ToolError
from kastra.tool.toolkit.jail import parts_of

SEARCH_ID = "skill-search"
SKILL, READ = "skill", "skill_read"
SEARCH, SEARCHED_LOAD = "search_skills", "load_skill"


def tool_names(searched: bool) -> tuple[str, ...]:
    """The tools that skills add: `searched` with `skill-search`."""
    return (SEARCH, SEARCHED_LOAD, READ) if searched else (SKILL, READ)


def is_searched(spec: Mapping[str, Any]) -> bool:
    """Whether a plain Agent spec has the processor that looks for skills."""
    return any(use["id"] == SEARCH_ID for use in (spec.get("processors") or {}).get("input") or ())


def added_tools(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the tools that the skills of a plain Agent spec add."""
    return tool_names(is_searched(spec)) if spec.get("skills") else ()


def skill_findings(spec: Mapping[str, Any], tools: Collection[str]) -> list[Cause]:
    """What is wrong with what a plain Agent spec says of skills.

    Args:
        tools: names of its other tools, as far as they are known.
    """
    found: list[Cause] = []
    for index, use in enumerate(spec.get("skills") or ()):
        path = f"spec.skills[{index}]"
        if use.get("file") is not None:
            found += _path(use["file"], f"{path}.file")
            continue
        items = use["configMap"].get("items")
        for number, item in enumerate(items or ()):
            found += _path(item["path"], f"{path}.configMap.items[{number}].path", file=True)
    for name in added_tools(spec):
        if name in tools:
            why = f"Invalid value: skills add a tool {name}, and there is one already: rename it by `as`"
            found.append(Cause(INVALID, why, "spec.skills"))
    if is_searched(spec) and not spec.get("skills"):
        uses = spec["processors"]["input"]
        index = next(index for index, use in enumerate(uses) if use["id"] == SEARCH_ID)
        why = "Invalid value: there are no skills to look for; name them in spec.skills"
        found.append(Cause(INVALID, why, f"spec.processors.input[{index}]"))
    return found


def _path(path: str, where: str, *, file: bool = False) -> list[Cause]:
    try:
        if parts_of(path) or (path == "." and not file):
            return []
        why = "must name something"
    except ToolError as error:
        why = error.message
    return [Cause(INVALID, f"Invalid value: {why}", where)]
