"""What the catalogue says of a built-in tool.

Read next: `kastra.tool.toolkit.catalogue`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kastra.tool.interface import ToolError


@dataclass(frozen=True, slots=True)
class Effect:
    """What a call may do, by the four questions of a Tool's `annotations`.

    Args:
        title: one word for tables.
        read_only: changes nothing.
        destructive: may delete or overwrite.
        idempotent: calling it twice with the same arguments changes nothing more.
        open_world: reaches systems outside.
    """

    title: str
    read_only: bool = True
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False

    def annotations(self) -> dict[str, bool]:
        """As a Tool's `spec.annotations`."""
        return {
            "readOnly": self.read_only,
            "destructive": self.destructive,
            "idempotent": self.idempotent,
            "openWorld": self.open_world,
        }


PURE = Effect("computes")
READ = Effect("reads")
WRITE = Effect("writes", read_only=False)
ADD = Effect("adds", read_only=False, idempotent=False)
CHANGE = Effect("changes", read_only=False, destructive=True, idempotent=False)
REPLACE = Effect("overwrites", read_only=False, destructive=True)
REMOVE = Effect("deletes", read_only=False, destructive=True)
FETCH = Effect("fetches", open_world=True)
SEND = Effect("sends", read_only=False, destructive=True, idempotent=False, open_world=True)
RUN = Effect("runs", read_only=False, destructive=True, idempotent=False, open_world=True)


@dataclass(frozen=True)
class Builtin:
    """One built-in tool.

    Args:
        name: `group.verb`, as manifests name it.
        function: performs a call; its signature is the schema, a parameter annotated `Kit` or `ToolContext` is hidden.
        effect: what it may do.
        settings: the settings that it heeds.
        needs: those of them without which it can't work.
        timeout: seconds for one call, unless a Tool says otherwise.
    """

    name: str
    function: Callable[..., Any]
    effect: Effect = PURE
    settings: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    timeout: float = 30.0

    @property
    def group(self) -> str:
        """The part of its name before the dot."""
        return self.name.partition(".")[0]

    @property
    def shown(self) -> str:
        """How a model sees its name: providers allow letters, digits, `_` and `-`."""
        return self.name.replace(".", "_")

    @cached_property
    def description(self) -> str:
        """The first paragraph of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n\n")[0].replace("\n", " ")

    def spec(self, use: Mapping[str, Any]) -> dict[str, Any]:
        """The spec of a Tool with this body, as an Agent's binding stands for it.

        Args:
            use: `{name}` and settings.
        """
        return {
            "builtin": dict(use),
            "description": self.description,
            "annotations": self.effect.annotations(),
            "timeout": f"{self.timeout:g}s",
        }


def unfit(message: str) -> ToolError:
    """The arguments can't be used; the message says what would do."""
    return ToolError(message, type="validation", retryable=False)


def missing(message: str) -> ToolError:
    """What an argument names isn't there."""
    return ToolError(message, type="not_found", retryable=False)


def forbidden(message: str) -> ToolError:
    """What is asked for isn't allowed, whatever the arguments."""
    return ToolError(message, type="authorization", retryable=False)
