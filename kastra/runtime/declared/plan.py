"""What does a Reconciler's spec say, once its expressions are compiled? A `Plan`, or everything that is wrong with it.

    object      the object, without managedFields                      everywhere
    resources   by id, the objects that were made of earlier templates  templates, status, ready
    item, key   of `forEach`                                            the template and readyWhen of the same entry
    resource    the object made of the template                         readyWhen
    output, run what the Run gave, and the Run                          status, ready, message, reason

Conditions (`when`, `forEach`, `readyWhen`, `ready`) are one expression, with or without `${{ }}` around it; all else is data
with expressions in it. Evaluates nothing, reads no object. Read next: `kastra.runtime.declared.passes`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import orjson

from kastra.api.durations import parse_duration
from kastra.api.errors import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, Cause
from kastra.api.names import closest
from kastra.cel import CelError, Environment, Template, environment

BODIES = ("workflow", "agent", "resources")
RESERVED = frozenset({"conditions", "observedGeneration"})
"""Fields of a status that say how the object is, and that no mapping may set."""

MAX_CHILDREN = 256
"""Objects that one object may expand to."""

_RETRIES, _HISTORY, _CLEANUP_SECONDS = 5, 3, 300.0
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_RUN = ("object", "output", "run")
_OF_RESOURCES = ("object", "resources")


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A Run to be made for an object.

    Args:
        kind: of the target: Workflow or Agent.
        name: of the target.
        namespace: of the target; empty for the object's own.
        input: its input; None for the whole object.
        timeout: of the Run, as written; empty for none.
        digest: over all of the above: another one means another Run.
    """

    kind: Literal["Workflow", "Agent"]
    name: str
    namespace: str
    input: Template | None
    timeout: str
    digest: str


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """A template of a composition.

    Args:
        needs: ids of the resources without which it can't be evaluated.
        after: those, and the ones of which it is only asked whether they are there.
        path: of the entry in the spec.
    """

    id: str
    api_version: str
    kind: str
    template: Template
    when: Template | None
    for_each: Template | None
    ready_when: Template | None
    needs: frozenset[str]
    after: frozenset[str]
    path: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A Reconciler, compiled: exactly one of `run` and `resources` is there.

    Args:
        api_version: of the objects.
        kind: of the objects.
        resources: in the order in which they are made.
        finalize: the Run before an object goes.
        finalize_seconds: after which the object goes in any case.
        resync: seconds after which an object is reconciled without a change; None for never.
        retries: of a Run that failed.
        history: finished Runs that are kept per object.
        cancel_on_change: whether a Run for an older spec is cancelled rather than waited for.
        status: the status by top-level field.
    """

    api_version: str
    kind: str
    run: RunPlan | None = None
    resources: tuple[ResourcePlan, ...] = ()
    finalize: RunPlan | None = None
    finalize_seconds: float = _CLEANUP_SECONDS
    resync: float | None = None
    retries: int = _RETRIES
    history: int = _HISTORY
    cancel_on_change: bool = False
    status: Mapping[str, Template] = field(default_factory=dict)
    ready: Template | None = None
    reason: Template | None = None
    message: Template | None = None

    @property
    def group(self) -> str:
        """Of the objects' kind."""
        return self.api_version.rpartition("/")[0]

    @property
    def qualified(self) -> str:
        """The kind with its group: `Glossary.example.com`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


def compile_plan(spec: Mapping[str, Any]) -> tuple[Plan | None, Sequence[Cause]]:
    """The plan of a Reconciler's spec in its normal form, or None and what is wrong, with field paths."""
    compiler = _Compiler()
    plan = compiler.plan(spec)
    return (None, compiler.causes) if compiler.causes else (plan, ())


class _Compiler:
    def __init__(self) -> None:
        self.causes: list[Cause] = []

    def plan(self, spec: Mapping[str, Any]) -> Plan:
        subject = spec["for"]
        given = [name for name in BODIES if spec.get(name) is not None]
        if len(given) != 1:
            found = "none is given" if not given else f"these are given: {', '.join(given)}"
            self._say(REQUIRED, f"Required value: exactly one of {', '.join(BODIES)}; {found}", "spec")
        run = next((self._run(kind, spec, ("object",)) for kind in ("workflow", "agent") if spec.get(kind)), None)
        resources = self._resources(spec.get("resources") or ())
        names = _OF_RESOURCES if spec.get("resources") is not None else _OF_RUN
        ids = [resource.id for resource in resources] if resources else None
        status = self._status(spec.get("status") or {}, names, ids)
        finalize = spec.get("finalize") or {}
        return Plan(
            api_version=subject["apiVersion"],
            kind=subject["kind"],
            run=run,
            resources=tuple(resources),
            finalize=self._run("workflow", finalize, ("object",), "spec.finalize") if finalize else None,
            finalize_seconds=_seconds(finalize.get("timeout"), _CLEANUP_SECONDS),
            resync=self._resync(spec.get("resync")),
            retries=spec.get("retries", _RETRIES),
            history=spec.get("historyLimit", _HISTORY),
            cancel_on_change=spec.get("onChange") == "Cancel",
            status=status,
            ready=self._condition(spec.get("ready"), "spec.ready", names, ids),
            reason=self._template(spec.get("reason"), "spec.reason", names, ids),
            message=self._template(spec.get("message"), "spec.message", names, ids),
        )

    def _run(
        self, field_name: str, holder: Mapping[str, Any], names: Sequence[str], path: str = "spec"
    ) -> RunPlan | None:
        body, path = holder.get(field_name) or {}, f"{path}.{field_name}"
        for part in ("name", "namespace"):
            if "${{" in (body.get(part) or ""):
                self._say(FORBIDDEN, "Forbidden: what is run can't depend on the object", f"{path}.{part}")
        if field_name == "agent" and body.get("input") is None:
            self._say(REQUIRED, "Required value: what the agent is asked", f"{path}.input")
        return RunPlan(
            kind="Workflow" if field_name == "workflow" else "Agent",
            name=body.get("name", ""),
            namespace=body.get("namespace") or "",
            input=self._template(body["input"], f"{path}.input", names) if "input" in body else None,
            timeout=body.get("timeout") or "",
            digest=blake2b(orjson.dumps([field_name, body], option=orjson.OPT_SORT_KEYS), digest_size=5).hexdigest(),
        )

    def _resync(self, value: str | None) -> float | None:
        if value is None:
            return None
        seconds = parse_duration(value)
        if seconds < 1:
            self._say(INVALID, f'Invalid value: "{value}": must be at least 1s', "spec.resync")
        return seconds

    def _status(
        self, fields: Mapping[str, Any], names: Sequence[str], ids: Sequence[str] | None
    ) -> Mapping[str, Template]:
        compiled: dict[str, Template] = {}
        for name, value in fields.items():
            path = f"spec.status.{name}"
            if name in RESERVED:
                self._say(FORBIDDEN, "Forbidden: the controller sets this field; see spec.ready", path)
            template = self._template(value, path, names, ids)
            if template is not None:
                compiled[name] = template
        return compiled

    # ---- composition

    def _resources(self, entries: Sequence[Mapping[str, Any]]) -> Sequence[ResourcePlan]:
        ids = [entry["id"] for entry in entries]
        found: list[ResourcePlan] = []
        for index, entry in enumerate(entries):
            path = f"spec.resources[{index}]"
            if ids.index(entry["id"]) != index:
                self._say(DUPLICATE, f'Duplicate value: "{entry["id"]}"', f"{path}.id")
            if not _IDENTIFIER.fullmatch(entry["id"]):
                message = f'Invalid value: "{entry["id"]}": letters, digits and _ only, since expressions name it'
                self._say(INVALID, message, f"{path}.id")
            resource = self._resource(entry, path, ids)
            if resource is not None:
                found.append(resource)
        return self._ordered(found)

    def _resource(self, entry: Mapping[str, Any], path: str, ids: Sequence[str]) -> ResourcePlan | None:
        template = entry["template"]
        for part in ("apiVersion", "kind"):
            value = template.get(part)
            if not isinstance(value, str) or not value or "${{" in value:
                message = "Required value: a text without expressions, so that it is known what can be made"
                self._say(REQUIRED, message, f"{path}.template.{part}")
                return None
        name = (template.get("metadata") or {}).get("name") if isinstance(template.get("metadata"), dict) else None
        if not isinstance(name, str) or not name:
            self._say(
                REQUIRED, "Required value: the same object must get the same name", f"{path}.template.metadata.name"
            )
        elif entry.get("forEach") and "${{" not in name:
            message = f'Invalid value: "{name}": with forEach the name needs an expression, or all have the same'
            self._say(INVALID, message, f"{path}.template.metadata.name")
        if "status" in template:
            self._say(FORBIDDEN, "Forbidden: the status is for the controller of the object", f"{path}.template.status")
        each = ("item", "key") if entry.get("forEach") else ()
        when = self._condition(entry.get("when"), f"{path}.when", _OF_RESOURCES, ids)
        for_each = self._condition(entry.get("forEach"), f"{path}.forEach", _OF_RESOURCES, ids)
        body = self._template(template, f"{path}.template", (*_OF_RESOURCES, *each), ids)
        ready_when = self._condition(
            entry.get("readyWhen"), f"{path}.readyWhen", (*_OF_RESOURCES, "resource", *each), ids, own=entry["id"]
        )
        if body is None:
            return None
        needs: set[str] = set()
        after: set[str] = set()
        for expression in (when, for_each, body):
            if expression is not None:
                needs |= set(_needed(expression))
                after |= expression.references().names("resources")
        return ResourcePlan(
            id=entry["id"],
            api_version=template["apiVersion"],
            kind=template["kind"],
            template=body,
            when=when,
            for_each=for_each,
            ready_when=ready_when,
            needs=frozenset(needs & set(ids)),
            after=frozenset(after & set(ids)),
            path=path,
        )

    def _ordered(self, resources: Sequence[ResourcePlan]) -> Sequence[ResourcePlan]:
        """Those that others need first; otherwise as written."""
        done: dict[str, ResourcePlan] = {}
        left = list(resources)
        while left:
            free = next((resource for resource in left if resource.after <= done.keys()), None)
            if free is None:
                known = {resource.id for resource in resources}
                circle = [resource for resource in left if resource.after <= known]
                if circle:
                    names = " -> ".join(resource.id for resource in circle)
                    message = f"Invalid value: these resources need each other, so that none can be first: {names}"
                    self._say(INVALID, message, circle[0].path)
                return resources
            done.setdefault(free.id, free)
            left.remove(free)
        return tuple(done.values())

    # ---- expressions

    def _condition(
        self, text: str | None, path: str, names: Sequence[str], ids: Sequence[str] | None = None, own: str = ""
    ) -> Template | None:
        if text is None:
            return None
        if "${{" not in text:
            text = f"${{{{ {text} }}}}"
        return self._template(text, path, names, ids, own)

    def _template(
        self, data: Any, path: str, names: Sequence[str], ids: Sequence[str] | None = None, own: str = ""
    ) -> Template | None:
        if data is None and path.endswith(("reason", "message")):
            return None
        env: Environment = environment(*names)
        try:
            template = Template.compile(data, env, path)
        except CelError as error:
            place = f"{error.line}:{error.column}: " if error.line else ""
            message = f'Invalid value: "{error.expression[:200]}": {place}{error.reason}'
            self._say(INVALID, message, error.path or path)
            return None
        if "resources" in names and ids is not None:
            self._check_ids(template, path, ids, own)
        return template

    def _check_ids(self, template: Template, path: str, ids: Sequence[str], own: str) -> None:
        found = template.references()
        inside = ".template" in path or path.endswith((".when", ".forEach"))
        if inside and "resources" in found.whole:
            self._say(INVALID, "Invalid value: name the resource: resources.ID, since it must be made before", path)
        for name in found.names("resources"):
            if name not in ids:
                near = closest(name, ids)
                hint = f'; did you mean "{near}"?' if near else f"; there are {', '.join(ids) or 'none'}"
                self._say(INVALID, f'Invalid value: there is no resource "{name}"{hint}', path)

    def _say(self, reason: str, message: str, path: str) -> None:
        self.causes.append(Cause(reason, message, path))


def _needed(template: Template) -> Iterator[str]:
    """Ids that are read rather than only asked about."""
    for member in template.references().members.get("resources", ()):
        if not member.tested:
            yield member.name


def _seconds(value: str | None, otherwise: float) -> float:
    return otherwise if value is None else parse_duration(value)
