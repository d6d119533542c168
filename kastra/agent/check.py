"""Could an Agent be asked as it stands? What can be said of its plain spec without asking a model.

Makes and calls nothing. Read next: `kastra.agent.assembly`, which makes agents and refuses the same things.
"""

import os
from collections.abc import Mapping
from typing import Any

from kastra.model.check import model_findings
from kastra.tool.declared import ANYTHING

from .assembly import ASK_SCHEMA
from .models import key_variable

NO_PROBLEM = ("", "")
TEXT: Mapping[str, Any] = {"type": "string"}


def missing_key(provider: str) -> str:
    """The environment variable without which no model of a provider named inline answers; empty if nothing is missing."""
    variable, needed = key_variable(provider)
    return variable if needed and not os.environ.get(variable) else ""


def missing_credentials(provider: str) -> tuple[str, str]:
    """(reason, message) if the key to a provider named inline is missing; empty texts if not."""
    variable = missing_key(provider)
    if not variable:
        return NO_PROBLEM
    return "MissingCredentials", (
        f"environment variable {variable} is not set; set it where Kastra runs, or make a ModelProvider with apiKeyFrom "
        "and name a Model of it in modelRef"
    )


def fallbacks_without_key(spec: Mapping[str, Any]) -> list[str]:
    """What is missing for the fallbacks of an agent that name their provider inline."""
    return [
        f"spec.fallbacks[{index}]: environment variable {variable} is not set"
        for index, fallback in enumerate(spec.get("fallbacks") or ())
        if fallback.get("provider") and fallback.get("enabled") is not False
        if (variable := missing_key(fallback["provider"]))
    ]


def default_problem(text: str, choice: Mapping[str, Any], annotation: str) -> tuple[str, str]:
    """(reason, message) if the model that an agent without one gets makes no sense; empty texts if it does.

    Args:
        text: the default as written; empty if there is none.
        choice: the same in normal form; empty if it has none.
        annotation: where a namespace's default would stand, for the message.
    """
    if not text:
        return "NoModel", (
            "no model: give spec.model or spec.modelRef, or a default: defaults.model of the System that owns this agent, "
            f"annotation {annotation}, or the setting default_model"
        )
    if not choice:
        return "InvalidModel", f'the default model "{text}" must be written provider/name'
    problems = model_findings(choice["provider"], choice["name"], choice["parameters"], "model")
    return ("InvalidModel", f'the default model "{text}": {problems[0].message}') if problems else NO_PROBLEM


def model_name(choice: Mapping[str, Any]) -> str:
    """`provider/name`, for people."""
    provider, name = choice["provider"], choice.get("name") or ""
    return provider if name in ("", provider) else f"{provider}/{name}"


def shown_names(spec: Mapping[str, Any]) -> list[str]:
    """The names of an agent's tools as its model sees them, in order."""
    return [binding.get("as") or binding["name"] for binding in spec.get("tools") or ()]


def called_schema(kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments with which an Agent, a Workflow or a Network is called as a tool, from its plain spec."""
    if kind == "Agent":
        return spec.get("inputSchema") or ASK_SCHEMA
    return spec.get("inputSchema") or (spec.get("input") or {}).get("schema") or ANYTHING


def step_schemas(
    kind: str, spec: Mapping[str, Any], status: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """What a step that calls an object gives it and gets from it, as far as that is known; None where anything may be.

    Args:
        spec: plain and normalised.
        status: of a Tool, which has the schema of a body that has one of its own.
    """
    if kind == "Tool":
        return spec.get("inputSchema") or status.get("inputSchema"), spec.get("outputSchema")
    if kind == "Workflow":
        return (spec.get("input") or {}).get("schema"), (spec.get("output") or {}).get("schema")
    if kind == "Agent":
        # Whatever an agent is given becomes a message. Without a schema its answer is text, unless a processor makes something of it.
        return None, spec.get("outputSchema") or (None if spec.get("processors") else TEXT)
    return None, (spec.get("output") or {}).get("schema")
