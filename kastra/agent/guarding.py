"""From the `processors` and `guardrails` of an Agent to what is applied, with the models that judge.

Ids that have a meaning elsewhere and no effect here are left out among processors, which the Agent's condition
`UnsupportedFeatures` says; a guardrail that can't be applied is refused. Read next: `kastra.agent.processors.guards`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.model.chain import ModelEntry

from .models import Lookup, models_of, refuse
from .processors.catalogue import KNOWN_ONLY, make, phases
from .processors.guards import Guards
from .processors.interface import Processor
from .services import AgentServices


def guards_of(spec: Mapping[str, Any], lookup: Lookup, services: AgentServices, owner: str) -> Guards | None:
    """The processors of a plain spec; None if there are none.

    Raises:
        StepError: one can't be made of what is written (type `validation`).
    """
    declared = spec.get("processors") or {}
    given: list[Processor] = []
    answered: list[Processor] = []
    judges: dict[str, list[ModelEntry]] = {}
    places = [(use, f"spec.guardrails[{index}]", "") for index, use in enumerate(spec.get("guardrails") or ())]
    places += [
        (use, f"spec.processors.{side}[{index}]", side)
        for side in ("input", "output")
        for index, use in enumerate(declared.get(side) or ())
        if use["id"] not in KNOWN_ONLY
    ]
    for use, path, side in places:
        try:
            made = make(use, path, guardrail=not side)
        except ValueError as error:
            raise refuse(f"Agent {owner}: {error}") from None
        where = phases(use, given=side)
        if "input" in where:
            given.append(made)
        if "output" in where:
            answered.append(made)
        if made.model is not None:
            judges[path] = models_of({"model": made.model["choice"]}, lookup, {}, services, f"{path}.config")
    return Guards(given, answered, judges) if given or answered else None
