"""What a built-in tool is given besides its arguments: the settings of whoever uses it, and the outside world.

A function of a group that needs any of it has a parameter annotated `Kit`, which no model sees. Read next:
`kastra.tool.toolkit.jail`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kastra.clock import Clock
from kastra.netguard import Guard
from kastra.tool.interface import ToolError, ToolServices
from kastra.tool.platform import Platform
from kastra.tool.toolkit.jail import Jail

WORKSPACE = "workspace"
"""The folder of the project that file tools work in unless told otherwise."""
MAX_FILE = 4 * 1024 * 1024
"""Bytes of a file that is read or written, unless a setting says otherwise."""


@dataclass(frozen=True)
class Kit:
    """The surroundings of the calls of one tool.

    Args:
        settings: `folder`, `maxBytes`, `hosts`, `allowPrivate`, `programs`, `workflows`, `types`, `bases`, `scope`, as far as
            given.
        services: of all tools.
    """

    settings: Mapping[str, Any]
    services: ToolServices

    @property
    def guard(self) -> Guard:
        """For outbound HTTP."""
        return self.services.guard

    @property
    def clock(self) -> Clock:
        """For everything that has to do with time."""
        return self.services.clock

    @property
    def namespace(self) -> str:
        """In which whatever is asked of Kastra itself happens."""
        return self.services.namespace

    @property
    def platform(self) -> Platform:
        """Kastra itself; nothing of it where the process has none."""
        return self.services.platform or Platform()

    @cached_property
    def jail(self) -> Jail:
        """The folder. Raises ValueError if the process has no project, or the folder isn't within it."""
        if self.services.folder is None:
            raise ValueError("spec.builtin.folder: this process has no project folder, so tools can't use files")
        folder: str = self.settings.get("folder") or WORKSPACE
        return Jail(self.services.folder, folder, self.services.private, self.max_bytes)

    @property
    def max_bytes(self) -> int:
        """Bytes of a file or an answer."""
        return int(self.settings.get("maxBytes") or MAX_FILE)


def absent(what: str) -> ToolError:
    """This process has no such part of Kastra."""
    return ToolError(f"{what} can't be used here: that takes a process that executes", retryable=False)
