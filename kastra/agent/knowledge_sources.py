"""What does a KnowledgeBase hold? The documents that its sources name: files of the project, ConfigMaps, addresses.

    file        a file, a folder with everything below it, or a pattern (`docs/**/*.md`), within the project's folder
    configMap   each key is a document
    url         one page, through the outbound guard; HTML becomes Markdown

Names that begin with a dot, links, and the server's own data are left out. Read next: `kastra.agent.library`.
"""

import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.to_thread

from kastra.tool.interface import ToolError, ToolServices
from kastra.tool.toolkit.jail import Jail
from kastra.tool.toolkit.kit import MAX_FILE, Kit
from kastra.tool.toolkit.search import path_pattern
from kastra.tool.toolkit.web import fetch

MOST_DOCUMENTS = 10_000
"""Of one base."""

ConfigMaps = Callable[[str, str], Awaitable[Mapping[str, str]]]
"""From namespace and name of a ConfigMap to its data. Raises LookupError, naming what is missing."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a source names, not read yet.

    Args:
        source: number of the source.
        name: within it: a path, a key, an address.
        load: gives its text. Raises ToolError.
    """

    source: int
    name: str
    load: Callable[[], Awaitable[str]]

    @property
    def markdown(self) -> bool:
        """Whether headings mean something in it."""
        return "://" in self.name or self.name.lower().endswith((".md", ".markdown", ".mdx"))


class Sources:
    """Finds and reads documents.

    Args:
        services: for files and addresses.
        config_maps: reads ConfigMaps.
    """

    def __init__(self, services: ToolServices, config_maps: ConfigMaps) -> None:
        self._services = services
        self._config_maps = config_maps

    async def documents(self, number: int, source: Mapping[str, Any], namespace: str) -> list[Document]:
        """The documents of one source.

        Raises:
            ToolError: it can't be looked into.
        """
        if source.get("file") is not None:
            jail = self._jail()
            names = await anyio.to_thread.run_sync(_names, jail, str(source["file"]))
            return [Document(number, name, partial(_read, jail, name)) for name in names]
        if source.get("configMap") is not None:
            try:
                data = await self._config_maps(namespace, source["configMap"]["name"])
            except LookupError as error:
                raise ToolError(str(error.args[0]), type="not_found", retryable=False) from None
            return [Document(number, key, partial(_given, text)) for key, text in sorted(data.items())]
        kit = Kit({"allowPrivate": bool(source.get("allowPrivate"))}, self._services)
        return [Document(number, source["url"], partial(_fetched, kit, source["url"]))]

    def _jail(self) -> Jail:
        folder = self._services.folder
        if folder is None:
            raise ToolError("this process has no project folder, so no files can be read", retryable=False)
        return Jail(folder, ".", self._services.private, MAX_FILE)


def _names(jail: Jail, path: str) -> list[str]:
    """The files that a path or a pattern names."""
    if "*" in path or "?" in path:
        wanted = path_pattern(path)
        # Only what lies below the folder that the pattern begins with is looked at.
        fixed = path[: min(at for at in (path.find("*"), path.find("?")) if at >= 0)].rpartition("/")[0]
        found = [name for name in _below(jail, fixed) if wanted.match(name)]
    elif path.strip("/") in ("", ".") or stat.S_ISDIR(jail.stat(path).st_mode):
        found = _below(jail, "" if path.strip("/") in ("", ".") else path)
    else:
        found = [path]
    if len(found) > MOST_DOCUMENTS:
        raise ToolError(f"{path!r}: more than {MOST_DOCUMENTS:,} files", type="validation", retryable=False)
    return found


def _below(jail: Jail, folder: str) -> list[str]:
    return [
        path
        for path, _, _, facts in jail.walk(folder)
        if stat.S_ISREG(facts.st_mode) and not any(part.startswith(".") for part in path.split("/"))
    ]


async def _read(jail: Jail, name: str) -> str:
    return await anyio.to_thread.run_sync(jail.text, name)


async def _given(text: str) -> str:
    return text


async def _fetched(kit: Kit, url: str) -> str:
    page = await fetch(kit, url)
    title = page.get("title")
    return f"# {title}\n\n{page['content']}" if title else str(page["content"])
