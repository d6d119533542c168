"""How is a built-in tool called? As a Python function of Kastra's own, with its kit.

Read next: `kastra.tool.python`, which does the calling.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kastra.tool.interface import ToolServices
from kastra.tool.python import PythonTool, Signature, signature_of
from kastra.tool.toolkit.builtin import Builtin
from kastra.tool.toolkit.catalogue import builtins, problem
from kastra.tool.toolkit.jail import Jail
from kastra.tool.toolkit.kit import WORKSPACE, Kit


@cache
def signature(name: str) -> Signature:
    """The signature of a built-in tool. Raises KeyError if there is none."""
    return signature_of(builtins()[name].function, name, (Kit,))


def checked_builtin(use: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The schema of the arguments of a built-in tool.

    Args:
        use: `{name}` and settings.
        folder: of the project.

    Raises:
        ValueError: as for `builtin_body`.
    """
    tool = _usable(use)
    if "folder" in tool.settings:
        Jail(folder, use.get("folder") or WORKSPACE)
    return signature(tool.name).schema


def _usable(use: Mapping[str, Any]) -> Builtin:
    settings = {key: value for key, value in use.items() if key != "name"}
    field, message = problem(use["name"], settings, group=False)
    if message:
        raise ValueError(f"spec.builtin.{field}: {message}")
    return builtins()[use["name"]]


def builtin_body(use: Mapping[str, Any], services: ToolServices) -> PythonTool:
    """What performs the calls of a built-in tool.

    Args:
        use: `{name}` and settings.
        services: of all tools.

    Raises:
        ValueError: there is no such tool, or a setting makes no sense; the message begins with the field's path.
    """
    tool = _usable(use)
    kit = Kit({key: value for key, value in use.items() if key != "name"}, services)
    if "folder" in tool.settings:
        # Made now, so that a folder that can't be is an error of the manifest and not of the first call.
        _ = kit.jail
    return PythonTool(tool.function, tool.name, signature(tool.name), {Kit: kit})
