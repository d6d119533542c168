"""Is a model that a spec names one that can be made? For the `validate` functions of kinds that name models.

Says what is wrong field by field and makes nothing: a provider type that nobody offers, a missing name, rules of the
scripted provider that don't compile.

Read next: `kastra.model.providers`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import anyio.to_thread

from kastra.api.errors import INVALID, REQUIRED, Cause
from kastra.model.providers import BUILT_IN, load_factory, plugin_of, provider_types
from kastra.model.scripted import ScriptedModel
from kastra.plugins import PluginError
from kastra.schema.causes import unsupported


def provider_findings(provider: str, path: str) -> list[Cause]:
    """Whether a provider type that stands at `path` is known."""
    known = _known()
    if provider in known:
        return []
    finding = unsupported(provider, known)
    return [Cause(finding.reason, finding.message, path)]


@cache
def _known() -> list[str]:
    """Looking at every installed package takes a millisecond, and packages don't come and go while a process runs."""
    return provider_types()


async def plugin_problem(provider: str) -> str:
    """Why models of a known provider type can't be made, if its package doesn't load; else an empty text.

    Imports the package, in a worker thread, since that runs somebody's code.
    """
    if provider in BUILT_IN:
        return ""
    try:
        await anyio.to_thread.run_sync(load_factory, plugin_of(provider))
    except PluginError as error:
        return str(error)
    return ""


def model_findings(provider: str, name: str, parameters: Mapping[str, Any], path: str) -> list[Cause]:
    """What is wrong with a choice `{provider, name, parameters}` that stands at `path`."""
    found = provider_findings(provider, f"{path}.provider")
    if not found and not name and provider != "scripted":
        found.append(Cause(REQUIRED, f"Required value: the name of a model of {provider}", f"{path}.name"))
    if provider == "scripted":
        found += _rules_findings(parameters, f"{path}.parameters.rules")
    return found


def _rules_findings(parameters: Mapping[str, Any], path: str) -> list[Cause]:
    pace = {name: value for name, value in parameters.items() if name in ("chunkSize", "delay", "chunkDelay")}
    try:
        ScriptedModel(parameters.get("rules"), path=path, pace=pace)
    except ValueError as error:
        # The message begins with the exact place.
        place, _, reason = str(error).partition(": ")
        return [Cause(INVALID, f"Invalid value: {reason}", place)] if reason else [Cause(INVALID, place, path)]
    return []
