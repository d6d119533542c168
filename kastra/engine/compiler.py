"""Is a workflow sound, and what is its graph?

Takes the plain normalised spec (its form is in `kastra.engine.graph`) and gives either a `Graph` or every reason why there
is none, each with its field path: so admission refuses what could only fail later. It resolves `next`, `dependsOn` and
`input.from`, compiles every expression, and checks what each refers to. It never looks at other objects: whether an agent
exists is its controller's question.

Source: compilers; the validation of Argo Workflows (workflow/validate). Read next: `kastra.engine.executor`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import re2

from kastra.api.errors import DUPLICATE, FORBIDDEN, NOT_SUPPORTED, REQUIRED, Cause
from kastra.clock import parse_rfc3339

from .budget import merged
from .compensation import Compensation, compensation_of
from .compiler_checks import body_causes, cycle_causes, delivery_causes, features_of, has_cycle, unreachable_causes
from .compiler_names import Findings, Names, as_template, beside
from .compiler_schemas import schema_causes
from .expressions import VARIABLES, Condition, suggest
from .graph import (
    END,
    KINDS,
    LEAF_KINDS,
    Branch,
    Case,
    Catch,
    Flow,
    ForEach,
    Graph,
    Loop,
    Parallel,
    Scope,
    Sleep,
    Step,
)
from .memo import CALLING, REUSABLE, Memo
from .retry import DEFAULT_RETRY, NO_RETRY, RetryPolicy
from .wait_bodies import PATIENT_KINDS, WAITING_KINDS, wait_body

MAX_EXECUTIONS = 1000
"""Steps that one Run may begin in a scope with a cycle, unless it says otherwise."""

_ID = re2.compile(r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$")
_RESERVED = frozenset({"case", "default", "catch", "compensate", "finally", "END", "input", "user-input"})


class GraphError(ValueError):
    """A spec has no graph; `causes` say why."""

    def __init__(self, causes: Sequence[Cause]) -> None:
        super().__init__("; ".join(f"{cause.field}: {cause.message}" for cause in causes))
        self.causes = list(causes)


def compile_workflow(spec: Mapping[str, Any], path: str = "spec") -> Graph:
    """The graph of a plain normalised Workflow spec.

    Args:
        path: where the spec stands, for the paths of errors.

    Raises:
        GraphError: it isn't sound.
    """
    compiler = _Compiler(spec, path)
    graph = compiler.graph()
    if not compiler.causes:
        compiler.causes += schema_causes(graph)
    if compiler.causes:
        raise GraphError(compiler.causes)
    return graph


def check_workflow(spec: Mapping[str, Any], path: str = "spec") -> list[Cause]:
    """Everything that is wrong with a plain normalised Workflow spec; empty if it compiles."""
    try:
        compile_workflow(spec, path)
    except GraphError as error:
        return error.causes
    return []


class _Compiler(Findings):
    def __init__(self, spec: Mapping[str, Any], path: str) -> None:
        super().__init__()
        self._spec = spec
        self._path = path
        self._features: list[tuple[str, str]] = []
        self._forgets = False
        defaults = spec.get("defaults") or {}
        self._delivery = defaults.get("delivery")
        self._timeout = defaults.get("timeout") or {}
        self._retry = defaults.get("retry") or {}

    # --- the whole -------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        spec, path = self._spec, self._path
        variables = VARIABLES
        flow = spec.get("flow") or ""
        scope = self._scope(spec.get("steps"), f"{path}.steps", flow, spec.get("initialStep"), None, variables)
        endings = self._endings(spec, path, scope)
        self._features += features_of(spec, path)
        output = spec.get("output") or {}
        timeout = spec.get("timeout") or {}
        state = spec.get("state") or {}
        given = (spec.get("input") or {}).get("from")
        if given not in (None, "input", "user-input"):
            self.report(
                NOT_SUPPORTED,
                f'Unsupported value: "{given}": a workflow is given what its Run is: user-input',
                f"{path}.input.from",
            )
        self._concurrency(spec.get("concurrency") or {}, f"{path}.concurrency")
        inside = self._inside(scope, variables)
        return Graph(
            scope=scope,
            input_schema=(spec.get("input") or {}).get("schema"),
            output_schema=output.get("schema"),
            output=self.template(output["as"], f"{path}.output.as", inside) if "as" in output else None,
            state=state.get("initial") or {},
            state_schema=state.get("schema"),
            timeout=self.seconds(timeout.get("total", timeout.get("attempt")), f"{path}.timeout"),
            max_executions=int(spec.get("maxStepExecutions") or MAX_EXECUTIONS),
            max_in_flight=int((spec.get("concurrency") or {}).get("maxStepsInFlight") or 0),
            features=tuple(self._features),
            finally_=endings,
            compensates=spec.get("onError") == "compensate",
            compensate_at_once=(spec.get("compensation") or {}).get("order") == "parallel",
            forgets=self._forgets,
            budget=merged(spec.get("budget")),
            budgeted=any(step.budget is not None for part in (scope, endings) if part for step in part.walk()),
        )

    def _concurrency(self, spec: Mapping[str, Any], path: str) -> None:
        """Runs are grouped before they begin, so a key sees their input and nothing else."""
        if spec.get("maxRuns") is None and (spec.get("key") or spec.get("policy")):
            self.report(REQUIRED, "Required value: key and policy are about the Runs beyond maxRuns", f"{path}.maxRuns")
        self.condition(spec.get("key"), f"{path}.key", Names({}, {}, frozenset({"input"})))

    def _endings(self, spec: Mapping[str, Any], path: str, scope: Scope) -> Scope | None:
        """The steps of `finally`: they see those at the top, why the Run failed, and how it is going to end."""
        if not spec.get("finally"):
            return None
        variables = VARIABLES | {"error", "outcome"}
        around = Names(dict(scope.index), {name: list(steps) for name, steps in scope.names.items()}, variables)
        return self._scope(spec["finally"], f"{path}.finally", "", None, around, variables)

    def _compensation(self, spec: Mapping[str, Any], path: str, names: Names) -> Compensation | None:
        """How a step is undone: its `compensate.steps` see what it saw, its output and the error."""
        steps = (spec.get("compensate") or {}).get("steps")
        if not steps:
            return None
        retry, first = self._retry, len(self.references)
        self._retry = {**retry, **((self._spec.get("compensation") or {}).get("retry") or {})}
        call = bool(spec["compensate"].get("ofTool"))
        variables = names.variables | {"output", "error"} | ({"call"} if call else set())
        scope = self._scope(steps, f"{path}.compensate.steps", "", None, names, variables)
        self._retry = retry
        return compensation_of(scope, self.references[first:], names.visible_ids(), call=call)

    def _inside(self, scope: Scope, variables: frozenset[str], parent: Names | None = None) -> Names:
        """The names that an expression evaluated after a scope's steps sees."""
        labels = {name: list(steps) for name, steps in scope.names.items()}
        return Names(dict(scope.index), labels, variables | {"output"}, parent)

    # --- scopes ----------------------------------------------------------------------------------------------------

    def _scope(
        self,
        steps: Any,
        path: str,
        flow: str,
        initial: str | None,
        parent: Names | None,
        variables: frozenset[str],
    ) -> Scope:
        if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
            self.report(REQUIRED, "Required value: at least one step", path)
            steps = []
        ids: dict[str, int] = {}
        labels: dict[str, list[int]] = {}
        for index, step in enumerate(steps):
            self._declare(step, index, f"{path}[{index}]", ids, labels)
        if not flow:
            flow = Flow.DAG if any(step.get("dependsOn") for step in steps) else Flow.SEQUENCE
        if flow not in tuple(Flow):
            self.report(NOT_SUPPORTED, f'Unsupported value: "{flow}": supported values: "Sequence", "DAG"', path)
            flow = Flow.SEQUENCE
        names = Names(ids, labels, variables, parent)
        compiled = tuple(
            self._step(step, index, f"{path}[{index}]", Flow(flow), names, len(steps))
            for index, step in enumerate(steps)
        )
        first = 0
        if initial:
            first = ids.get(initial, 0)
            if initial not in ids:
                self.invalid(f'there is no step "{initial}"{suggest(initial, ids)}', beside(path, "initialStep"))
        scope = Scope(compiled, Flow(flow), first, ids, {name: tuple(found) for name, found in labels.items()})
        if flow == Flow.DAG:
            self.causes += cycle_causes(scope)
        elif flow == Flow.SEQUENCE and not self.causes:
            self.causes += unreachable_causes(scope)
        return replace(scope, cyclic=has_cycle(scope))

    def _declare(
        self, step: Mapping[str, Any], index: int, path: str, ids: dict[str, int], labels: dict[str, list[int]]
    ) -> None:
        """Check a step's own name and note what it adds to the names of its scope."""
        name = step.get("id")
        if not name:
            self.report(REQUIRED, "Required value: a step is referred to by its id", f"{path}.id")
            return
        if not _ID.match(name):
            rule = "1 to 63 letters, digits, '_', '.' or '-', starting and ending with a letter, a digit or '_'"
            self.invalid(f'"{name}": must be {rule}', f"{path}.id")
        elif name in _RESERVED:
            self.invalid(f'"{name}" is a reserved word; choose another id', f"{path}.id")
        if name in ids:
            self.report(DUPLICATE, f'Duplicate value: "{name}"', f"{path}.id")
        else:
            ids[name] = index
        label = (step.get("output") or {}).get("type")
        if label:
            labels.setdefault(label, []).append(index)

    # --- steps -----------------------------------------------------------------------------------------------------

    def _step(self, spec: Mapping[str, Any], index: int, path: str, flow: Flow, names: Names, count: int) -> Step:
        kind = self._kind(spec, path)
        self._features += features_of(spec, path, kind)
        self.causes += body_causes(kind, spec.get(kind), f"{path}.{kind}")
        self.causes += delivery_causes(spec, path, kind)
        condition: Condition | None = None
        depends: tuple[int, ...] = ()
        watches: tuple[int, ...] = ()
        if flow == Flow.DAG:
            depends, condition, watches = self._depends(spec, path, names)
        elif spec.get("dependsOn"):
            self.report(FORBIDDEN, "Forbidden: only the steps of a DAG depend on others; use next", f"{path}.dependsOn")
        source = spec.get("input") or {}
        output = spec.get("output") or {}
        timeout = {**({} if kind in PATIENT_KINDS else self._timeout), **(spec.get("timeout") or {})}
        inner = Names(names.ids, names.labels, names.variables | {"value"}, names.parent)
        after = Names(names.ids, names.labels, names.variables | {"output"}, names.parent)
        # A child Run, or a body of steps, has retried what could be retried by the time it fails.
        repeated = kind in ("agent", "tool", "python")
        retry = {**(self._retry if repeated else {}), **(spec.get("retry") or {})}
        base = DEFAULT_RETRY if repeated or retry else NO_RETRY
        failing = Names(names.ids, names.labels, names.variables | {"error"}, names.parent)
        return Step(
            id=spec.get("id") or "",
            kind=kind,
            path=path,
            index=index,
            body=self._body(kind, spec, path, names, flow, count),
            when=self.condition(spec.get("when"), f"{path}.when", names),
            skip_dependents=spec.get("onSkip") == "skipDependents",
            next=self._next(spec.get("next"), f"{path}.next", flow, names, index, count),
            depends=depends,
            condition=condition,
            watches=watches,
            input=self.source(source, f"{path}.input", names),
            prompt=self.template(source["prompt"], f"{path}.input.prompt", inner) if source.get("prompt") else None,
            input_schema=source.get("schema"),
            output_name=output.get("type") or "",
            output_as=self.template(output["as"], f"{path}.output.as", after) if "as" in output else None,
            export=self.template(output["export"], f"{path}.output.export", after) if output.get("export") else None,
            output_schema=output.get("schema"),
            sensitive=bool(output.get("sensitive")),
            retry=self.attempt(f"{path}.retry", lambda: RetryPolicy.of(retry, base)),
            retry_when=self.condition(retry.get("when"), f"{path}.retry.when", failing),
            attempt_timeout=self.seconds(timeout.get("attempt"), f"{path}.timeout"),
            total_timeout=self.seconds(timeout.get("total"), f"{path}.timeout"),
            heartbeat_timeout=self.seconds(timeout.get("heartbeat"), f"{path}.timeout") if repeated else None,
            queue_timeout=self.seconds(timeout.get("queue"), f"{path}.timeout"),
            priority=int(spec.get("priority") or 0),
            catches=tuple(
                self._catch(catch, position, f"{path}.catch[{position}]", flow, names, index, count)
                for position, catch in enumerate(spec.get("catch") or ())
            ),
            continue_on_error=bool(spec.get("continueOnError")),
            idempotency_key=(
                self.template(as_template(spec["idempotencyKey"]), f"{path}.idempotencyKey", inner)
                if spec.get("idempotencyKey")
                else None
            ),
            compensate=self._compensation(spec, path, names),
            budget=merged(spec.get("budget")),
            memo=self._memo(spec.get("memoize"), f"{path}.memoize", kind, inner),
            memory=self.template(spec["memory"], f"{path}.memory", names) if spec.get("memory") else None,
            options=self._options(spec, output),
            spec=spec,
        )

    def _memo(self, spec: Mapping[str, Any] | None, path: str, kind: str, names: Names) -> Memo | None:
        if not spec:
            return None
        scope = spec.get("scope") or "workflow"
        if kind not in REUSABLE:
            self.invalid(f"a step of kind {kind} has no value that could be reused", path)
        elif scope == "namespace" and kind not in CALLING:
            self.invalid(
                f"workflows share the values of steps that call something by name, not of {kind}", f"{path}.scope"
            )
        self._forgets = self._forgets or scope == "run"
        key = self.condition(spec.get("key"), f"{path}.key", names)
        return None if key is None else Memo(key, self.seconds(spec.get("ttl"), f"{path}.ttl"), scope)

    def _kind(self, spec: Mapping[str, Any], path: str) -> str:
        given = [kind for kind in KINDS if spec.get(kind) is not None]
        if not given:
            hint = next((suggest(key, KINDS) for key in spec if suggest(key, KINDS)), "")
            self.report(REQUIRED, f"Required value: exactly one of {', '.join(KINDS)}{hint}", path)
        for extra in given[1:]:
            message = f"Forbidden: a step is of exactly one kind, and {given[0]} is already given"
            self.report(FORBIDDEN, message, f"{path}.{extra}")
        return given[0] if given else "set"

    def _options(self, spec: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for key in ("onInDoubt", "stream", "sideEffects"):
            if spec.get(key) is not None:
                options[key] = spec[key]
        if spec.get("delivery"):
            options["delivery"] = spec["delivery"]
        elif self._delivery:
            options["defaultDelivery"] = self._delivery
        if output.get("schema") is not None:
            options["outputSchema"] = output["schema"]
        return options

    def _next(self, target: Any, path: str, flow: Flow, names: Names, index: int, count: int) -> int:
        following = index + 1 if index + 1 < count else END
        if target is None:
            return following if flow == Flow.SEQUENCE else END
        if target == "END":
            return END
        if flow != Flow.SEQUENCE:
            where = "in a DAG, dependsOn says what comes next" if flow == Flow.DAG else "parallel steps have no order"
            self.report("MixedFlow", f"Forbidden: next: {target}; {where}", path)
            return END
        if target not in names.ids:
            self.invalid(f'there is no step "{target}" here{suggest(target, [*names.ids, "END"])}', path)
            return END
        return names.ids[target]

    def _depends(
        self, spec: Mapping[str, Any], path: str, names: Names
    ) -> tuple[tuple[int, ...], Condition | None, tuple[int, ...]]:
        given, path = spec.get("dependsOn") or (), f"{path}.dependsOn"
        if isinstance(given, str):
            # Only siblings: a step further out is done, or not begun, before this scope runs.
            siblings = Names(names.ids, {}, names.variables)
            condition = self.condition(given, path, siblings)
            if condition is None:
                return (), None, ()
            watched = condition.references.names("steps") & names.ids.keys()
            if not watched and "steps" not in condition.references.whole:
                self.invalid('must ask for the status of a step, such as steps.a.status == "Succeeded"', path)
            every = "steps" in condition.references.whole
            return (), condition, tuple(i for name, i in names.ids.items() if every or name in watched)
        found = []
        for position, name in enumerate(given):
            if name == spec.get("id"):
                self.invalid(f'"{name}" can\'t depend on itself', f"{path}[{position}]")
            elif name not in names.ids:
                self.invalid(f'there is no step "{name}" here{suggest(name, names.ids)}', f"{path}[{position}]")
            else:
                found.append(names.ids[name])
        return tuple(dict.fromkeys(found)), None, ()

    # --- bodies ----------------------------------------------------------------------------------------------------

    def _body(self, kind: str, spec: Mapping[str, Any], path: str, names: Names, flow: Flow, count: int) -> Any:
        body, path = spec.get(kind), f"{path}.{kind}"
        if kind == "sleepUntil":
            return self._sleep_until(body, path, names)
        if kind in LEAF_KINDS or not isinstance(body, Mapping):
            return None
        if kind in WAITING_KINDS:
            return wait_body(self, kind, body, path, names)
        if kind in ("set", "raise"):
            return self.template(dict(body), path, names)
        if kind == "sleep":
            return self._sleep(body, path, names)
        if kind == "do":
            flow_name, first = body.get("flow") or "", body.get("initialStep")
            return self._scope(body.get("steps"), f"{path}.steps", flow_name, first, names, names.variables)
        if kind == "parallel":
            scope = self._scope(body.get("steps"), f"{path}.steps", Flow.PARALLEL, None, names, names.variables)
            return Parallel(scope, body.get("join", "all"), int(body.get("maxConcurrency") or 0))
        if kind == "branch":
            return self._branch(body, path, names, flow, spec, count)
        if kind == "loop":
            return self._loop(body, path, names)
        if kind == "forEach":
            return self._for_each(body, path, names)
        return None

    def _sleep(self, body: Mapping[str, Any], path: str, names: Names) -> Sleep:
        if body.get("expression") is not None:
            return Sleep(expression=self.condition(body["expression"], path, names))
        return Sleep(seconds=self.seconds(body.get("duration"), path))

    def _sleep_until(self, text: Any, path: str, names: Names) -> Sleep:
        if isinstance(text, str) and text[:1].isdigit():
            # What begins like a time is meant as one: as an expression it could only be a number.
            self.attempt(path, lambda: parse_rfc3339(text))
            return Sleep(time=text, until=True)
        return Sleep(expression=self.condition(text, path, names), until=True)

    def _branch(
        self, body: Mapping[str, Any], path: str, names: Names, flow: Flow, spec: Mapping[str, Any], count: int
    ) -> Branch:
        index = names.ids.get(spec.get("id") or "", 0)

        def case(item: Mapping[str, Any], where: str, segment: str) -> Case:
            when = self.condition(item.get("when"), f"{where}.when", names)
            if item.get("next") is not None:
                return Case(when, None, self._next(item["next"], f"{where}.next", flow, names, index, count), segment)
            steps, flow_name = item.get("steps"), item.get("flow") or ""
            return Case(
                when, self._scope(steps, f"{where}.steps", flow_name, None, names, names.variables), END, segment
            )

        cases = [
            case(item, f"{path}.cases[{position}]", f"case[{position}]")
            for position, item in enumerate(body.get("cases") or ())
        ]
        default = body.get("default")
        otherwise = case(default, f"{path}.default", "default") if default else None
        return Branch(body.get("mode") == "all", tuple(cases), otherwise)

    def _loop(self, body: Mapping[str, Any], path: str, names: Names) -> Loop:
        variables = names.variables | {"iteration"}
        flow_name, first = body.get("flow") or "", body.get("initialStep")
        scope = self._scope(body.get("steps"), f"{path}.steps", flow_name, first, names, variables)
        inside = Names(dict(scope.index), {}, variables, names)
        return Loop(
            scope,
            self.condition(body.get("while"), f"{path}.while", inside),
            self.condition(body.get("until"), f"{path}.until", inside),
            int(body.get("maxIterations") or 0),
            self.seconds(body.get("delay"), f"{path}.delay") or 0.0,
        )

    def _for_each(self, body: Mapping[str, Any], path: str, names: Names) -> ForEach:
        item, index = body.get("as") or "item", body.get("indexAs") or ""
        variables = names.variables | {item} | ({index} if index else frozenset())
        flow_name, first = body.get("flow") or "", body.get("initialStep")
        items = body.get("items")
        tolerated = body.get("toleratedFailures") or 0
        share = isinstance(tolerated, str) and tolerated.endswith("%")
        return ForEach(
            scope=self._scope(body.get("steps"), f"{path}.steps", flow_name, first, names, variables),
            items=tuple(items) if isinstance(items, list) else self.condition(items, f"{path}.items", names) or (),
            item_name=item,
            index_name=index,
            concurrency=int(body.get("concurrency") or 1),
            fail_fast=body.get("failFast", True) is not False,
            tolerated=float(str(tolerated).rstrip("%")),
            tolerated_share=share,
            batch=int(body.get("batchSize") or 0),
        )

    def _catch(
        self, spec: Mapping[str, Any], position: int, path: str, flow: Flow, names: Names, index: int, count: int
    ) -> Catch:
        name = spec.get("as") or "error"
        inside = Names(names.ids, names.labels, names.variables | {name, "error"}, names.parent)
        steps = spec.get("steps")
        return Catch(
            errors=tuple(spec.get("errors") or ()),
            when=self.condition(spec.get("when"), f"{path}.when", inside),
            name=name,
            scope=self._scope(steps, f"{path}.steps", "", None, names, inside.variables) if steps else None,
            next=(
                self._next(spec["next"], f"{path}.next", flow, names, index, count)
                if spec.get("next") is not None
                else None
            ),
            output=self.template(spec["output"], f"{path}.output", inside) if "output" in spec else None,
        )
