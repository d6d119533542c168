"""Which models lead a network, and how? Its routing model with its patience, its judge of completion, what its tools take.

Read next: `kastra.agent.network_assembly`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kastra.api.durations import parse_duration
from kastra.api.types import ClosureObject
from kastra.engine.retry import NO_RETRY, RetryPolicy
from kastra.tool.declared import ANYTHING
from kastra.tool.schema import JsonSchema

from .assembly import ASK_SCHEMA, Assembly, Objects
from .check import called_schema
from .completion import Completion
from .models import lookup_in, models_of, refuse
from .router import ModelRouter
from .routing_calls import Patience


def router_of(assembly: Assembly, target: ClosureObject, objects: Objects) -> ModelRouter | None:
    """The routing model of a Network object; None if it names none.

    Raises:
        StepError: it can't be made of what is written (type `validation`).
        ValueError: a duration, a number or a schema makes no sense.
    """
    spec = target["spec"]
    router, owner = spec.get("router") or {}, f"network/{target['name']}"
    models = models_of(router, lookup_in(target, objects), objects, assembly.services, "spec.router", owner=owner)
    if not models:
        return None
    completion = (spec.get("termination") or {}).get("completion") or {}
    judges_itself = completion.get("model") is None
    texts = [spec.get("instructions"), router.get("instructions")]
    if judges_itself and completion.get("criteria"):
        texts.append(f"The request is answered when: {completion['criteria']}")
    timeout, retry = router.get("timeout"), router.get("retry")
    return ModelRouter(
        models,
        "\n\n".join(text for text in texts if text),
        int((router.get("invalidChoice") or {}).get("retries", 2)),
        Patience(
            None if timeout is None else parse_duration(timeout), NO_RETRY if retry is None else RetryPolicy.of(retry)
        ),
        _schema(completion) if judges_itself else None,
    )


def completion_of(
    assembly: Assembly, target: ClosureObject, objects: Objects, router: ModelRouter | None
) -> Completion | None:
    """What a Network object says of completion; None if nothing.

    Raises:
        StepError: there is no model that could judge, or it can't be made of what is written (type `validation`).
        ValueError: the schema makes no sense.
    """
    given = (target["spec"].get("termination") or {}).get("completion")
    if given is None:
        return None
    path = "spec.termination.completion"
    mode = (target["spec"].get("router") or {}).get("mode") or "router"
    if given.get("model") is None:
        if router is None or mode not in ("router", "supervisor"):
            where = f"Network {target['namespace']}/{target['name']}"
            raise refuse(f"{where}: {path}.model: is required where no model chooses the members")
        return Completion()
    owner = f"network/{target['name']}/completion"
    models = models_of(given, lookup_in(target, objects), objects, assembly.services, path, owner=owner)
    return Completion(models, given.get("criteria") or "", _schema(given), int(given.get("everySteps") or 1))


def _schema(completion: Mapping[str, Any]) -> JsonSchema | None:
    schema = completion.get("schema")
    return None if schema is None else JsonSchema(schema, "spec.termination.completion.schema")


async def taken_by(assembly: Assembly, target: ClosureObject | None, objects: Objects) -> JsonSchema | None:
    """What a member that is no Agent is called with, where a supervisor calls it; None for a text.

    Raises:
        StepError: the member can't be made of what is written (type `validation`).
    """
    if target is None or target["kind"] == "Agent":
        return None
    if target["kind"] == "Tool":
        schema = (await assembly.bound(target, objects, target["name"], {}, False)).schema
    else:
        schema = called_schema(target["kind"], target["spec"])
    return JsonSchema(ASK_SCHEMA if target["kind"] == "Network" and schema == ANYTHING else schema, "inputSchema")


def handed_to(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """To whom a member may hand off: those that it names; where no member names any, all others."""
    if not any(each.get("canHandoffTo") for each in entries):
        return [each["name"] for each in entries if each["name"] != entry["name"]]
    return [name for name in entry.get("canHandoffTo") or () if name != entry["name"]]
