"""What can be said of an Agent's loop before anybody asks it: its processors, its stop condition, its choice of tools.

Makes and calls nothing. Read next: `kastra.agent.processors.catalogue`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kastra.api.errors import INVALID, Cause
from kastra.cel import CelError
from kastra.model.check import model_findings

from .loop import stop_condition
from .processors.catalogue import KNOWN_ONLY, make


def _declared(spec: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, bool]]:
    """`(use, path, whether it is a guardrail)` of everything that is to be applied around the model."""
    for index, use in enumerate(spec.get("guardrails") or ()):
        yield use, f"spec.guardrails[{index}]", True
    for side in ("input", "output"):
        for index, use in enumerate((spec.get("processors") or {}).get(side) or ()):
            yield use, f"spec.processors.{side}[{index}]", False


def unsupported_processors(spec: Mapping[str, Any]) -> list[str]:
    """Paths of the processors that are known and have no effect."""
    found = [path for use, path, guardrail in _declared(spec) if not guardrail and use["id"] in KNOWN_ONLY]
    if (spec.get("processors") or {}).get("error"):
        found.append("spec.processors.error")
    return found


def loop_findings(spec: Mapping[str, Any], tools: Collection[str]) -> list[Cause]:
    """What is wrong with the processors, `stopWhen` and `toolChoice` of a plain spec.

    Args:
        tools: the names of its tools as far as they are known; those of a server aren't.
    """
    found: list[Cause] = []
    for use, path, guardrail in _declared(spec):
        if not guardrail and use["id"] in KNOWN_ONLY:
            continue
        try:
            made = make(use, path, guardrail=guardrail)
        except ValueError as error:
            where, _, what = str(error).partition(": ")
            found.append(Cause(INVALID, f"Invalid value: {what}", where))
            continue
        if made.model is not None:
            choice = made.model["choice"]
            found += model_findings(
                choice["provider"], choice.get("name") or "", choice.get("parameters") or {}, f"{path}.config.model"
            )
    if spec.get("stopWhen") is not None:
        try:
            stop_condition(spec["stopWhen"])
        except CelError as error:
            found.append(Cause(INVALID, f"Invalid value: {error}", "spec.stopWhen"))
    choice = spec.get("toolChoice")
    offers = any(binding.get("mcp") is not None for binding in spec.get("tools") or ())
    if isinstance(choice, Mapping) and choice["tool"] not in tools and not offers:
        known = ", ".join(sorted(tools)) or "none"
        message = f"Invalid value: {choice['tool']!r} is no tool of this agent; there are: {known}"
        found.append(Cause(INVALID, message, "spec.toolChoice.tool"))
    return found
