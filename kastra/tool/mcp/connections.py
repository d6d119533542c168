"""Which connections to MCP servers does this process have? One for each way to reach one, opened when it is first used.

Shared by the controller, which lists tools, and by all Runs, which call them. A server whose spec has changed gets another
connection; the old one ends with its last call. Everything ends with the process. Read next: `kastra.tool.mcp.connection`.
"""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from kastra.background import Background
from kastra.clock import Clock
from kastra.netguard import Guard
from kastra.tool.interface import SecretReader

from .config import ServerConfig
from .connection import Connection

ReadSecret = Callable[[Mapping[str, Any], str], Awaitable[str]]
"""From a `valueFrom` and a namespace to the value. Raises LookupError, naming what is missing."""
NEWS = "mcp"
"""Topic of the bus that tells of servers with news, each event a namespace and a name."""


class Connections(Background):
    """The connections of a process. An async context manager.

    Args:
        guard: for HTTP.
        clock: for deadlines and pauses.
        secrets: reads values that specs refer to.
        folder: the project's, in which programs start.
        told: called with namespace and name when there is news of a server.
    """

    def __init__(
        self,
        guard: Guard,
        clock: Clock,
        secrets: ReadSecret,
        folder: Path | None = None,
        told: Callable[[str, str], None] | None = None,
    ) -> None:
        super().__init__()
        self._guard = guard
        self._clock = clock
        self._secrets = secrets
        self._folder = folder
        self._told = told
        self._open: dict[tuple[str, str], dict[str, Connection]] = {}
        self._changed: set[tuple[str, str]] = set()

    def of(self, config: ServerConfig) -> Connection:
        """The connection to a server; it need not be open yet."""
        key = (config.namespace, config.name)
        known = self._open.setdefault(key, {})
        found = known.get(config.digest)
        if found is None:
            found = known[config.digest] = Connection(
                config,
                tasks=self._tasks,
                guard=self._guard,
                clock=self._clock,
                secrets=self._reader(config.namespace),
                folder=self._folder,
                changed=lambda: self._note(key),
            )
        return found

    def _note(self, key: tuple[str, str]) -> None:
        self._changed.add(key)
        if self._told is not None:
            self._told(*key)

    def keep(self, config: ServerConfig) -> None:
        """End the connections that other specs of the same object had."""
        self._retire(config.namespace, config.name, but=config.digest)

    def drop(self, namespace: str, name: str) -> None:
        """End all connections to a server: it isn't used any more, or what it was started with has changed."""
        self._retire(namespace, name)

    def servers(self) -> list[tuple[str, str]]:
        """Namespaces and names of the servers that there are connections for."""
        return list(self._open)

    def take_changed(self) -> set[tuple[str, str]]:
        """Namespaces and names of the servers of which there is news since this was last asked."""
        found, self._changed = self._changed, set()
        return found

    def _retire(self, namespace: str, name: str, but: str = "") -> None:
        known = self._open.get((namespace, name), {})
        for digest in [digest for digest in known if digest != but]:
            known.pop(digest).retire()
        if not known:
            self._open.pop((namespace, name), None)

    def _reader(self, namespace: str) -> SecretReader:
        async def read(value_from: Mapping[str, Any]) -> str:
            return await self._secrets(value_from, namespace)

        return read
