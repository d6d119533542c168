"""Where are the files of a skill? In a folder of the project, or in the keys of a ConfigMap.

A folder of the project is walked as file tools walk theirs: nothing leads out of it, no link is followed, the server's own data is
never entered. Names that begin with a dot are left out. A ConfigMap is a skill, as it would be mounted: each key a file, or with
`items` those that are listed, at their paths.

Read next: `kastra.agent.skills.shelf`.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kastra.agent.processors.patterns import readable
from kastra.tool.interface import ToolError
from kastra.tool.toolkit.builtin import forbidden, missing, unfit
from kastra.tool.toolkit.jail import Jail, parts_of

from .front_matter import FILE, SkillProblem

MAX_FILE = 1 << 20
"""Bytes of a file of a skill."""
MOST_FILES = 200
MOST_LEVELS = 4
"""Folders below that of a skill."""


class SkillFolder(Protocol):
    """The files of one skill. Paths are relative to its folder."""

    @property
    def where(self) -> str:
        """What it is called in messages: a path of the project, or a ConfigMap."""
        ...

    @property
    def name(self) -> str:
        """The name that its skill must have; empty for any."""
        ...

    def read(self, path: str, limit: int = MAX_FILE) -> bytes:
        """The bytes of a file of at most `limit`. Raises ToolError."""
        ...

    def paths(self) -> list[str]:
        """All files but the SKILL.md. Raises ToolError: there are too many."""
        ...


@dataclass(frozen=True, slots=True)
class ProjectFolder:
    """A folder of the project.

    Args:
        jail: the project.
        path: of the folder in it.
    """

    jail: Jail
    path: str

    @property
    def where(self) -> str:
        """The path of the folder."""
        return self.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def read(self, path: str, limit: int = MAX_FILE) -> bytes:
        """The bytes of a file."""
        parts = _shown(path)
        try:
            return self.jail.read("/".join([self.path, *parts]), limit)
        except ToolError as error:
            if error.type != "not_found":
                raise
            raise missing(f"there is no file {path[:200]!r}") from None

    def paths(self) -> list[str]:
        """The files, in order of names."""
        above = len(self.path) + 1
        found = [path[above:] for path, _, _, facts in self.jail.walk(self.path) if stat.S_ISREG(facts.st_mode)]
        return _listed(found)


@dataclass(frozen=True, slots=True)
class GivenFolder:
    """Files that are given as texts.

    Args:
        where: they come from.
        texts: by path.
        name: empty, since any name will do.
    """

    where: str
    texts: Mapping[str, str]
    name: str = ""

    def read(self, path: str, limit: int = MAX_FILE) -> bytes:
        """The bytes of a file."""
        text = self.texts.get("/".join(_shown(path)))
        if text is None:
            raise missing(f"there is no file {path[:200]!r}")
        data = text.encode("utf-8", "surrogatepass")
        if len(data) > limit:
            raise unfit(f"{path!r} has {len(data):,} bytes; at most {limit:,} are read")
        return data

    def paths(self) -> list[str]:
        """The files, in order of names."""
        return _listed(sorted(self.texts))


def project_folders(jail: Jail, path: str) -> list[ProjectFolder]:
    """The folders of skills that a path of the project names: itself, or those that are in it.

    Raises:
        SkillProblem: there is none.
    """
    try:
        parts = parts_of(path)
        if parts and parts[-1] == FILE:
            parts.pop()
        with jail.folder(parts) as descriptor:
            names = sorted(os.listdir(descriptor))  # noqa: PTH208 - of a descriptor
        _all_text(names)
        if FILE in names and parts:
            return [ProjectFolder(jail, "/".join(parts))]
        inner = ["/".join([*parts, name]) for name in names if not name.startswith(".")]
        found = [ProjectFolder(jail, folder) for folder in inner if _is_skill(jail, folder)]
    except ToolError as error:
        raise SkillProblem(f"{path}: {error.message}", missing=error.type == "not_found") from None
    except OSError as error:
        raise SkillProblem(f"{path}: {error.strerror}") from None
    if not found:
        raise SkillProblem(f"{path}: there is no {FILE} in it, and no folder with one", missing=True)
    return found


def given_folder(where: str, use: Mapping[str, Any], data: Mapping[str, Any]) -> GivenFolder:
    """The folder that a ConfigMap is.

    Args:
        where: it is called so in messages.
        use: `{name, items}`, as an Agent refers to it.
        data: its keys.

    Raises:
        SkillProblem: a key isn't there.
    """
    items: Sequence[Mapping[str, str]] | None = use.get("items")
    pairs = [(key, key) for key in data] if items is None else [(item["key"], item["path"]) for item in items]
    texts: dict[str, str] = {}
    for key, path in pairs:
        if not isinstance(data.get(key), str):
            raise SkillProblem(f'{where} has no key "{key}"', missing=True)
        texts["/".join(part for part in path.split("/") if part not in ("", "."))] = data[key]
    return GivenFolder(where, texts)


def _is_skill(jail: Jail, folder: str) -> bool:
    try:
        return stat.S_ISREG(jail.stat(f"{folder}/{FILE}").st_mode)
    except ToolError as error:
        if error.type in ("not_found", "authorization"):
            # A file, a link, or a folder without one.
            return False
        raise


def _shown(path: str) -> list[str]:
    parts = parts_of(path)
    if any(part.startswith(".") for part in parts):
        raise forbidden(f"{path[:200]!r}: names that begin with a dot are no part of a skill")
    return parts


def _all_text(names: Sequence[str]) -> None:
    for name in names:
        if readable(name) != name:
            # Bytes that are no UTF-8: neither a model nor a journal can take such a name.
            raise unfit(f"the name {os.fsencode(name)!r} is no UTF-8 text; rename it")


def _listed(paths: Sequence[str]) -> list[str]:
    found = [path for path in paths if path != FILE and not any(part.startswith(".") for part in path.split("/"))]
    _all_text(found)
    if len(found) > MOST_FILES:
        raise unfit(f"it has more than {MOST_FILES} files")
    deep = next((path for path in found if path.count("/") > MOST_LEVELS), None)
    if deep is not None:
        raise unfit(f"{deep!r} is more than {MOST_LEVELS} folders down")
    return found
