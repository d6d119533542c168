"""What can be said of an Agent's loop before anybody asks it: its processors, its stop condition, its choice of tools.

Makes and calls nothing. Read next: `kastra.agent.processors.catalogue`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kastra.api.errors import INVALID, Cause
from kastra.cel import CelError
from kastra.model.check import model_findings

from .guarding import declared
from .loop import stop_condition
from .processors.interface import Processor
from .processors.selection import Selecting
from .processors.shaping import Shape
from .processors.structuring import Structuring


def _models(made: Processor | Shape) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The models that a processor asks, each with its place below `config`."""
    if isinstance(made, Processor):
        if made.judge is not None:
            yield made.judge.choice, ".model"
    elif isinstance(made, Selecting):
        yield made.judge, ".model"
        for index, each in enumerate(made.candidates):
            yield each.choice, f".choices[{index}].model"
    elif isinstance(made, Structuring) and made.choice is not None:
        yield made.choice, ".model"


def loop_findings(spec: Mapping[str, Any], tools: Collection[str]) -> list[Cause]:
    """What is wrong with the processors, `stopWhen` and `toolChoice` of a plain spec.

    Args:
        tools: the names of its tools as far as they are known; those of a server aren't.
    """
    found: list[Cause] = []
    for _, path, _, made in declared(spec):
        if isinstance(made, ValueError):
            where, _, what = str(made).partition(": ")
            found.append(Cause(INVALID, f"Invalid value: {what}", where))
            continue
        for model, field in _models(made):
            found += model_findings(
                model["provider"], model.get("name") or "", model.get("parameters") or {}, f"{path}.config{field}"
            )
        if isinstance(made, Structuring) and spec.get("outputSchema") is not None:
            why = "Invalid value: spec.outputSchema already makes the answer an object; leave one of them out"
            found.append(Cause(INVALID, why, path))
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
