"""Which skills does an agent have, as they are now? Read from where its manifest names them, each time they are needed.

    file        a folder of the project with a SKILL.md, or one with folders that have one
    configMap   a ConfigMap with the key SKILL.md

Nothing is kept between two looks but what bytes mean, so a changed file or ConfigMap is used by the next call. What can't be read is
told, never left out. Read next: `kastra.agent.skills.offering`, how a model gets to them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from kastra.tool.interface import ToolError
from kastra.tool.toolkit.builtin import missing, unfit
from kastra.tool.toolkit.jail import Jail

from .folders import SkillFolder, given_folder, project_folders
from .front_matter import FILE, SkillProblem, parse

MOST_SKILLS = 500
"""Of one agent."""
MOST_LISTED = 100
"""That a model is told of at once; more are looked for, with `skill-search`."""
MAX_INSTRUCTIONS = 64 * 1024
"""Bytes of a SKILL.md."""
_MOST_SHOWN = 64_000
"""Characters of a file that one call gives."""

ConfigMapReader = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""From namespace and name of a ConfigMap to its data. Raises LookupError, naming what is missing."""
Given = Mapping[int, Mapping[str, Any] | SkillProblem]
"""The data of the ConfigMaps that are used, by the number of the use; or why there is none."""


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill, as it is now.

    Args:
        name: unique among those of the agent.
        description: what it is for.
        instructions: Markdown.
        folder: its other files.
    """

    name: str
    description: str
    instructions: str
    folder: SkillFolder

    def told(self) -> str:
        """The instructions, and which files there are besides. Raises ToolError."""
        paths = self.folder.paths()
        if not paths:
            return self.instructions
        listed = "\n".join(f"- {path}" for path in paths)
        return f"{self.instructions}\n\nFiles of the skill {self.name}, for skill_read:\n{listed}"

    def lines(self, path: str, first: int, last: int | None) -> str:
        """Lines of a file, from 1, as many of them as are shown at once. Raises ToolError."""
        data = self.folder.read(path)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise unfit(f"{path!r} is no text: {len(data):,} bytes") from None
        if "\0" in text:
            raise unfit(f"{path!r} is no text: {len(data):,} bytes")
        every = text.splitlines(keepends=True)
        if first > max(len(every), 1) or (last is not None and last < first):
            raise unfit(f"{path!r} has {len(every)} lines; startLine and endLine must lie within them, in this order")
        shown, room = list[str](), _MOST_SHOWN
        for line in every[first - 1 : last]:
            room -= len(line)
            if room < 0:
                # Of a line that is too long by itself at least the beginning.
                shown = shown or [line[:_MOST_SHOWN]]
                break
            shown.append(line)
        if len(shown) == len(every) and room >= 0:
            return text
        cut = ", cut" if len(shown) == 1 and room < 0 and len(shown[0]) == _MOST_SHOWN else ""
        return f"{path} (lines {first}-{first - 1 + len(shown)} of {len(every)}{cut})\n{''.join(shown)}"


@dataclass(slots=True)
class Shelf:
    """The skills that were found, by name, and what is wrong with the others."""

    skills: dict[str, Skill] = field(default_factory=dict)
    problems: list[SkillProblem] = field(default_factory=list)

    @property
    def wrong(self) -> str:
        """What is wrong, the first five; empty if nothing is."""
        rest = len(self.problems) - 5
        told = "; ".join(problem.message for problem in self.problems[:5])
        return f"{told}; and {rest} more" if rest > 0 else told

    @property
    def reason(self) -> str:
        """For a condition: `SkillNotFound` if all that is wrong is that something isn't there."""
        return "SkillNotFound" if all(problem.missing for problem in self.problems) else "InvalidSkill"

    def named(self, name: Any) -> Skill:
        """The skill of a name. Raises ToolError."""
        found = self.skills.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(list(self.skills)[:20])
            wrong = f"; these can't be read: {self.wrong}" if self.problems else ""
            raise missing(f"there is no skill {str(name)[:100]!r}; there are: {known}{wrong}")
        return found


async def read_shelf(
    uses: Sequence[Mapping[str, Any]],
    namespace: str,
    folder: Path | None,
    private: Sequence[Path],
    config_maps: ConfigMapReader | None,
    most: int = MOST_LISTED,
) -> Shelf:
    """The skills of an agent.

    Args:
        uses: its `skills`, in normal form.
        namespace: of the agent.
        folder: of the project; None where no files are read.
        private: folders that are never entered.
        config_maps: reads them; None where there are none.
        most: how many there may be.
    """
    given: dict[int, Mapping[str, Any] | SkillProblem] = {}
    for index, use in enumerate(uses):
        if use.get("configMap") is None:
            continue
        if config_maps is None:
            given[index] = SkillProblem("this process reads no ConfigMaps")
            continue
        try:
            given[index] = await config_maps(namespace, use["configMap"]["name"])
        except LookupError as error:
            given[index] = SkillProblem(str(error.args[0]), missing=True)
    return await collected(uses, namespace, folder, private, given, most)


async def collected(
    uses: Sequence[Mapping[str, Any]],
    namespace: str,
    folder: Path | None,
    private: Sequence[Path],
    given: Given,
    most: int = MOST_LISTED,
    *,
    whole: bool = False,
) -> Shelf:
    """As `read_shelf`, with ConfigMaps that have been read; `whole` looks at how many other files there are, too."""
    work = partial(_collect, uses, namespace, folder, private, given, most, whole)
    if not any(use.get("file") is not None for use in uses):
        return work()
    return await anyio.to_thread.run_sync(work)


def _collect(
    uses: Sequence[Mapping[str, Any]],
    namespace: str,
    folder: Path | None,
    private: Sequence[Path],
    given: Given,
    most: int,
    whole: bool,
) -> Shelf:
    shelf, places = Shelf(), dict[str, str]()
    for index, use in enumerate(uses):
        path = f"spec.skills[{index}]"
        try:
            folders = _folders(use, namespace, folder, private, given.get(index))
        except SkillProblem as problem:
            shelf.problems.append(SkillProblem(f"{path}: {problem.message}", missing=problem.missing))
            continue
        # One more than there may be is enough to say that there are too many.
        for found in folders[: most + 1]:
            where = f"{found.where}/{FILE}"
            try:
                text = parse(found.read(FILE, MAX_INSTRUCTIONS), where, found.name)
                if whole:
                    found.paths()
            except ToolError as error:
                gone = error.type == "not_found"
                shelf.problems.append(SkillProblem(f"{path}: {found.where}: {error.message}", missing=gone))
                continue
            except SkillProblem as problem:
                shelf.problems.append(SkillProblem(f"{path}: {problem.message}"))
                continue
            if text.name in places:
                if places[text.name] != where:
                    what = f"there is a skill {text.name} already: {places[text.name]}"
                    shelf.problems.append(SkillProblem(f"{path}: {where}: {what}"))
                continue
            places[text.name] = where
            shelf.skills[text.name] = Skill(text.name, text.description, text.instructions, found)
        if len(shelf.skills) > most:
            hint = "" if most >= MOST_SKILLS else "; use the processor skill-search, which doesn't list them"
            shelf.problems.append(SkillProblem(f"{path}: there are more than {most} skills{hint}"))
            break
    return shelf


def _folders(
    use: Mapping[str, Any],
    namespace: str,
    folder: Path | None,
    private: Sequence[Path],
    given: Mapping[str, Any] | SkillProblem | None,
) -> Sequence[SkillFolder]:
    if use.get("file") is not None:
        if folder is None:
            raise SkillProblem("this process has no project folder, so no files can be read")
        return project_folders(Jail(folder, ".", private), str(use["file"]))
    if isinstance(given, SkillProblem):
        raise given
    if given is None:
        raise SkillProblem(f"ConfigMap {namespace}/{use['configMap']['name']} is not there", missing=True)
    return [given_folder(f"ConfigMap {namespace}/{use['configMap']['name']}", use["configMap"], given)]
