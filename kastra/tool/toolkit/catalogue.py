"""Which built-in tools are there? By name and by group.

Importing this imports the groups, but neither pydantic nor what single tools need (SQLite, HTML, RE2): they do that when they
are called. Read next: `kastra.tool.toolkit.body`.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from kastra.api.names import closest
from kastra.tool.toolkit.builtin import Builtin

GROUPS: Mapping[str, str] = {
    "files": "A folder of the project: list, read, search, write. Nothing outside it can be reached.",
    "http": "The web, through the outbound guard: pages as Markdown, JSON, downloads, requests.",
    "sql": "SQLite files of the folder, read only.",
    "json": "JSON values: parse, query, patch, compare, check.",
    "csv": "Tables as CSV, from text or from a file: read, filter, aggregate, write.",
    "yaml": "YAML from and to JSON values.",
    "time": "Dates, times, zones, durations and schedules.",
    "math": "Arithmetic, statistics and units.",
    "text": "Text: split, count, find, replace, compare, shorten.",
    "encoding": "Base64, hex, URL and HTML encodings, hashes and identifiers.",
    "process": "Programs that the manifest allows, without a shell.",
    "knowledge": "What the KnowledgeBases hold that the manifest names: search, list, read.",
    "vector": "Entries with metadata in such a KnowledgeBase: keep, find by meaning, forget.",
    "memory": "What is kept about the conversation, and what was said in it.",
    "workflow": "Workflows that the manifest names, each as a Run of its own.",
    "event": "CloudEvents of the types that the manifest names, to the namespace.",
}
"""The groups, each a module of this package (`json` is `json_values`, and so on: see `_MODULES`), and what they are for."""
READ_ONLY = "readOnly"
"""The setting of a group by which only tools that change nothing are taken."""
_MODULES = {
    "json": "json_values",
    "csv": "csv_tables",
    "yaml": "yaml_text",
    "time": "times",
    "math": "arithmetic",
    "encoding": "encodings",
    "process": "processes",
    "http": "web",
    "sql": "databases",
    "vector": "vectors",
    "memory": "remembering",
    "workflow": "workflows",
    "event": "events",
}


@cache
def builtins() -> Mapping[str, Builtin]:
    """All tools by name, group by group."""
    found: dict[str, Builtin] = {}
    for group in GROUPS:
        module = import_module(f"kastra.tool.toolkit.{_MODULES.get(group, group)}")
        for tool in module.TOOLS:
            found[tool.name] = tool
    return found


def named(name: str) -> tuple[Builtin, ...]:
    """The tools that a name means: one, or those of a group. Empty if it means none."""
    if name in GROUPS:
        return tuple(tool for tool in builtins().values() if tool.group == name)
    tool = builtins().get(name)
    return () if tool is None else (tool,)


def members(name: str, settings: Mapping[str, object]) -> tuple[Builtin, ...]:
    """The tools of a group that can be used with these settings: `readOnly` leaves out those that change something."""
    return tuple(
        tool
        for tool in named(name)
        if all(settings.get(setting) for setting in tool.needs)
        and (tool.effect.read_only or not settings.get(READ_ONLY))
    )


def heeded(tool: Builtin, settings: Mapping[str, object]) -> dict[str, object]:
    """Of the settings given for a group those that concern one of its tools."""
    return {key: value for key, value in settings.items() if key in tool.settings}


def problem(name: str, settings: Mapping[str, object], *, group: bool) -> tuple[str, str]:
    """What is wrong with a use of the toolkit: (field, message), empty texts if nothing is.

    Args:
        name: of a tool, or of a group.
        settings: those that are given.
        group: whether the name of a group will do.
    """
    found = named(name)
    if name in GROUPS and not group:
        return "name", f"{name} is a group; name one of its tools: {', '.join(tool.name for tool in found)}"
    if not found:
        near = closest(name, [*builtins(), *(GROUPS if group else ())])
        hint = f"did you mean {near!r}?" if near else "'kastra tools' lists them"
        return "name", f"there is no built-in tool {name!r}; {hint}"
    known = sorted(
        {setting for tool in found for setting in tool.settings} | ({READ_ONLY} if name in GROUPS else set())
    )
    for setting in settings:
        if setting not in known:
            return setting, f"{name} has no such setting; it has {', '.join(known) or 'none'}"
    if not members(name, settings):
        setting = next(setting for tool in found for setting in tool.needs if not settings.get(setting))
        return setting, f"{name} needs it"
    return "", ""
