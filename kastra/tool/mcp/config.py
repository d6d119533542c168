"""What of an MCPServer decides how it is reached, and which of its tools may be called? Plain data, no input or output.

Made from the plain spec of an MCPServer, by its controller and by what executes Runs alike. Read next:
`kastra.tool.mcp.connections`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

import orjson

from kastra.api.durations import parse_duration

DEFAULT_TIMEOUT = 30.0
"""Seconds for one request to a server, where its spec says nothing else."""
STDIO = "stdio"
STREAMABLE_HTTP = "streamableHttp"

_CONNECTION = ("transport", "command", "args", "env", "cwd", "url", "headersFrom", "auth", "allowPrivate", "timeout")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One MCP server.

    Args:
        namespace: of the object; whose Secrets are read.
        name: of the object.
        spec: in normal form.
        timeout: seconds for one request.
        digest: equal for specs that are reached in the same way.
    """

    namespace: str
    name: str
    spec: Mapping[str, Any]
    timeout: float = DEFAULT_TIMEOUT
    digest: str = field(default="", compare=False)

    @classmethod
    def of(cls, namespace: str, name: str, spec: Mapping[str, Any]) -> "ServerConfig":
        """From the plain spec of an MCPServer. Raises ValueError for a timeout that is no duration."""
        timeout = DEFAULT_TIMEOUT if spec.get("timeout") is None else parse_duration(spec["timeout"])
        used = {name: spec[name] for name in _CONNECTION if spec.get(name) is not None}
        digest = sha256(orjson.dumps(used, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        return cls(namespace, name, spec, timeout, digest)

    @property
    def choice(self) -> str:
        """Equal for specs that choose the same of a server's tools."""
        chosen = {name: self.spec.get(name) for name in ("toolFilter", "pin", "resources")}
        return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS).decode()

    @property
    def resources(self) -> bool:
        """Whether its resources can be listed and read, by tools of their own."""
        return self.spec.get("resources") is True

    @property
    def title(self) -> str:
        """For messages."""
        return f"MCPServer {self.namespace}/{self.name}"

    @property
    def command(self) -> list[str]:
        """The program and its arguments; empty for a server that is reached by a URL."""
        return [*(self.spec.get("command") or ()), *(self.spec.get("args") or ())]

    def offers(self, tool: str) -> bool:
        """Whether `toolFilter` lets a tool through: some pattern of `allow`, or there is none, and no pattern of `deny`."""
        chosen = self.spec.get("toolFilter") or {}
        allow: Sequence[str] | None = chosen.get("allow")
        if allow is not None and not any(fnmatchcase(tool, pattern) for pattern in allow):
            return False
        return not any(fnmatchcase(tool, pattern) for pattern in chosen.get("deny") or ())

    def drift(self, hashes: Mapping[str, str], whole: str) -> dict[str, str]:
        """Why tools may not be called until what they are now is accepted, by name; empty without a `pin` or a change.

        Args:
            hashes: of the tools that are offered, by name.
            whole: of all of them together.
        """
        pin = self.spec.get("pin")
        if pin is None:
            return {}
        if isinstance(pin, str):
            why = f"the tools of the server have changed: they have the hash {whole}, and spec.pin accepts {pin}"
            return {} if pin == whole else dict.fromkeys(hashes, why)
        return {
            tool: f"it has the hash {found}, and spec.pin accepts {pin[tool]}"
            if tool in pin
            else "spec.pin doesn't name it"
            for tool, found in hashes.items()
            if pin.get(tool) != found
        }
