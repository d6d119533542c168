"""Workflows that Mastra stores as JSON (`{id, graph: [entry, ...]}`), entry by entry.

    agent, tool, workflow   a step of that kind; an agent is asked `prompt` of its input and gives `{text}`
    mapping                 `set: {}` whose output is the mapping
    parallel, conditional   `parallel`, and `branch` of which every case is tried
    foreach, loop           `forEach` over what came before, and `loop`, whose condition is tested after each iteration
    sleep, sleepUntil       the same
    classifier              a stub, as there is no such thing

Source: Mastra's definition of dynamic workflows. Read next: `kastra.migrate.predicates`.
"""

from dataclasses import replace
from typing import Any

from kastra.manifest.decode import DecodeError, decode

from . import tools
from .context import Context, Draft, duration
from .expressions import rewrite_text
from .naming import reference
from .node import Node
from .paths import NotAPath, Scope, select, to_cel
from .predicates import predicate
from .transitions import step_id

MAX_ITERATIONS = 1000
"""Where a loop had no limit."""
_CALLS = {"agent": "agentId", "tool": "toolId", "workflow": "workflowId"}


def dynamic_workflow(ctx: Context, node: Node, name: str, namespace: str) -> Draft | None:
    """A Workflow of a stored definition."""
    draft = ctx.draft("Workflow", name, namespace, node)
    if draft is None:
        return None
    spec = draft.spec
    if draft.name != name:
        spec["name"] = name
    for key in ("description", "inputSchema", "outputSchema"):
        given = node.get(key)
        if given is not None:
            spec[key] = given.value
            draft.places["spec", key] = given
    state = node.get("stateSchema")
    if state is not None:
        spec["state"] = {"schema": state.value}
        draft.places["spec", "state"] = state
    node.get("id", "name", "createdAt", "updatedAt", "authorId", "status", "metadata")
    graph = node.get("graph", "stepGraph")
    entries = (
        [child for _, child in graph.entries("id") if isinstance(child.value, dict)]
        if graph is not None and isinstance(graph.value, list)
        else []
    )
    made = _Entries(ctx, draft, entries)
    steps = [step for index, entry in enumerate(entries) for step in made.step(entry, index == 0)]
    if not steps:
        steps = [{"id": "not-migrated", "raise": {"type": "NotMigrated", "title": "the workflow had no steps"}}]
        ctx.stub(draft, graph or node, "a workflow needs at least one step", "write spec.steps")
    spec["steps"] = steps
    for index, place in enumerate(made.places):
        draft.places["spec", "steps", index] = place
    ctx.rest(node, draft)
    return draft


class _Entries:
    """The entries of one graph."""

    def __init__(self, ctx: Context, draft: Draft, entries: list[Node]) -> None:
        self._ctx = ctx
        self._draft = draft
        self._ids: dict[tuple[str | int, ...], str] = {}
        self._used: set[str] = set()
        self.places: list[Node] = []
        aliases: dict[str, str] = {}
        steps = []
        for index, entry in enumerate(entries):
            name = self._id(entry, str(index + 1))
            steps.append(name)
            for position, child in enumerate(self._children(entry)):
                own = self._id(child, f"{index + 1}-{position + 1}")
                kind = entry.peek("type")
                if kind in ("parallel", "conditional"):
                    aliases[own] = select("steps", [name, "output", own])
                else:
                    aliases[own] = select("steps", [name, "output"])
        self._scope = Scope(frozenset(steps), aliases=aliases)

    def _id(self, entry: Node, place: str) -> str:
        if entry.path not in self._ids:
            wanted = step_id(entry.peek("id")) or f"{entry.peek('type') or 'step'}-{place}"
            wanted = step_id(wanted) or f"step-{place}"
            name, number = wanted, 2
            while name in self._used:
                name, number = f"{wanted[:58]}-{number}", number + 1
            self._used.add(name)
            self._ids[entry.path] = name
        return self._ids[entry.path]

    @staticmethod
    def _children(entry: Node) -> list[Node]:
        many, single = entry.peek("steps"), entry.peek("step")
        if isinstance(many, list):
            below = entry.child("steps")
            return [below.child(index) for index, item in enumerate(many) if isinstance(item, dict)]
        return [entry.child("step")] if isinstance(single, dict) else []

    def step(self, entry: Node, first: bool) -> list[dict[str, Any]]:
        """The step of a top-level entry."""
        self.places.append(entry)
        return [self._made(entry, self._scope, first)]

    def _made(self, entry: Node, scope: Scope, first: bool = False) -> dict[str, Any]:
        ctx, draft = self._ctx, self._draft
        given = entry.get("type")
        kind = given.text if given is not None else ""
        step: dict[str, Any] = {"id": self._id(entry, "0")}
        described = entry.get("description")
        if described is not None:
            step["description"] = str(described.value)
        entry.get("id", "metadata", "steps", "step")
        if kind in _CALLS:
            self._call(entry, step, kind, scope)
        elif kind == "mapping":
            step["set"] = {}
            step["output"] = {"as": self._mapping(entry, scope)}
        elif kind == "parallel":
            step["parallel"] = {"steps": [self._made(child, scope) for child in self._children(entry)]}
        elif kind == "conditional":
            self._conditional(entry, step, scope)
        elif kind == "foreach":
            body = [self._made(child, scope) for child in self._children(entry)]
            step["forEach"] = {"items": "input" if first else "prev", "steps": body}
            options = entry.get("opts", "options")
            at_once = options.get("concurrency") if options is not None else None
            if at_once is not None:
                step["forEach"]["concurrency"] = at_once.value
        elif kind == "loop":
            self._loop(entry, step, scope)
        elif kind == "sleep":
            time = entry.get("duration")
            step["sleep"] = (duration(time, milliseconds=True) if time is not None else None) or "1ms"
            if time is None:
                ctx.stub(draft, entry, "the sleep has no literal duration", "write sleep")
        elif kind == "sleepUntil":
            date = entry.get("date")
            step["sleepUntil"] = str(date.value) if date is not None else "1970-01-01T00:00:00Z"
            if date is None:
                ctx.stub(draft, entry, "the sleep has no literal date", "write sleepUntil")
        else:
            what = "classifiers" if kind == "classifier" else f'entries of type "{kind}"'
            entry.get("classifierId", "state", "options")
            step["tool"] = tools.stub(ctx, entry, f"{draft.name}-{step['id']}", draft.namespace, f"there are no {what}")
        for left in entry.untaken():
            ctx.dropped(draft.about, left)
        return step

    def _call(self, entry: Node, step: dict[str, Any], kind: str, scope: Scope) -> None:
        ctx, draft = self._ctx, self._draft
        target = entry.get(_CALLS[kind], kind)
        found = reference(target.value) if target is not None else None
        if found is None:
            name = f"{draft.name}-{step['id']}"
            step["tool"] = tools.stub(
                ctx, entry, name, draft.namespace, f'it isn\'t said what step "{step["id"]}" of {draft.about} calls'
            )
        else:
            step[kind] = found
        options = entry.get("options")
        if options is not None and isinstance(options.value, dict):
            retries = options.get("retries")
            if retries is not None:
                step["retries"] = retries.value
            options.get("metadata")
            for left in options.untaken():
                ctx.dropped(draft.about, left)
        schema = entry.get("outputSchema")
        if kind == "agent" and found is not None:
            # What the agent was asked, and how later steps read what it said.
            step["input"] = {"prompt": "${{ value.prompt }}"}
            if schema is None:
                step["output"] = {"as": {"text": "${{ output }}"}}
            else:
                step["output"] = {"schema": schema.value}
                ctx.note(
                    "note",
                    draft.about,
                    schema,
                    "the agent must give structured output itself",
                    "set outputSchema in the Agent",
                )

    def _mapping(self, entry: Node, scope: Scope) -> dict[str, Any]:
        ctx, draft = self._ctx, self._draft
        given = entry.get("mapConfig")
        config: Any = given.value if given is not None else None
        if isinstance(config, str):
            try:
                config = decode(config.encode(), json=True)[0].value
            except (DecodeError, UnicodeEncodeError):
                config = None
        if given is None or not isinstance(config, dict):
            ctx.stub(draft, given or entry, "the mapping is no JSON object", "write output.as")
            return {}
        found: dict[str, Any] = {}
        for name, descriptor in config.items():
            try:
                found[name] = self._described(descriptor, scope)
            except NotAPath as error:
                ctx.stub(draft, given, f'"{name}" {error}', "write it as ${{ }} in CEL")
                found[name] = None
        return found

    def _described(self, descriptor: Any, scope: Scope) -> Any:
        if not isinstance(descriptor, dict):
            raise NotAPath("is no source that is known")
        path = descriptor.get("path")
        rest = f".{path}" if isinstance(path, str) and path not in ("", ".") else ""
        if "value" in descriptor:
            value = descriptor["value"]
            if "${{" in str(value):
                raise NotAPath("holds ${{, which would be an expression")
            return value
        if isinstance(descriptor.get("template"), str):
            text = rewrite_text(descriptor["template"], scope, variables=False)
            if text.failed:
                raise NotAPath(f"holds {text.failed[0]}")
            return text.value
        if descriptor.get("initData"):
            return f"${{{{ {to_cel(f'initData{rest}', scope)[0]} }}}}"
        step = descriptor.get("step")
        if isinstance(step, str):
            return f"${{{{ {to_cel(f'stepResults.{step}{rest}', scope)[0]} }}}}"
        if isinstance(step, list) and step and all(isinstance(name, str) for name in step):
            cel = "null"
            for name in reversed(step):
                value, whole = (to_cel(f"stepResults.{name}{tail}", scope)[0] for tail in (rest, ""))
                cel = f"{whole} != null ? {value} : {cel}" if cel == "null" else f"{whole} != null ? {value} : ({cel})"
            return f"${{{{ {cel} }}}}"
        raise NotAPath("comes from the request's context, which doesn't exist here")

    def _conditional(self, entry: Node, step: dict[str, Any], scope: Scope) -> None:
        ctx, draft = self._ctx, self._draft
        children, given = self._children(entry), entry.get("predicates", "serializedConditions")
        tests = given.value if given is not None and isinstance(given.value, list) else []
        cases, names = [], []
        for index, child in enumerate(children):
            try:
                when = predicate(tests[index] if index < len(tests) else None, scope)
            except NotAPath as error:
                ctx.stub(draft, child, f"its predicate {error}", "write branch.cases[].when")
                when = "false"
            cases.append({"when": when, "steps": [self._made(child, scope)]})
            names.append(self._id(child, "0"))
        if not cases:
            step["set"] = {}
            ctx.stub(draft, entry, "the branch has no cases", "write branch")
            return
        step["branch"] = {
            "mode": "all",
            "cases": cases,
            "default": {"steps": [{"id": f"{step['id'][:58]}-none", "set": {}}]},
        }
        # The values of the cases come by number; what follows reads them by step.
        step["output"] = {
            "as": {
                name: f'${{{{ "{index}" in output ? output["{index}"] : null }}}}' for index, name in enumerate(names)
            }
        }

    def _loop(self, entry: Node, step: dict[str, Any], scope: Scope) -> None:
        ctx, draft = self._ctx, self._draft
        kind, given = entry.get("loopType"), entry.get("predicate", "serializedCondition")
        children = self._children(entry)
        body = [self._made(child, scope) for child in children]
        inner = replace(
            scope,
            steps=scope.steps | {made["id"] for made in body},
            aliases={k: v for k, v in scope.aliases.items() if k not in {m["id"] for m in body}},
        )
        try:
            test = predicate(
                _seen_from_inside(given.value if given is not None else None, body[-1]["id"] if body else ""), inner
            )
        except NotAPath as error:
            ctx.stub(draft, given or entry, f"the predicate {error}", "write loop.until")
            test = "true"
        until = f"!({test})" if kind is None or kind.text != "dountil" else test
        limit = entry.get("maxIterations")
        if limit is None:
            ctx.note("note", draft.about, entry, f"the loop had no limit; it has {MAX_ITERATIONS} iterations now")
        step["loop"] = {
            "until": until,
            "maxIterations": limit.value if limit is not None else MAX_ITERATIONS,
            "steps": body,
        }
        if not body:
            step.pop("loop")
            step["set"] = {}
            ctx.stub(draft, entry, "the loop has no body", "write loop")


def _seen_from_inside(value: Any, body: str, depth: int = 0) -> Any:
    """A loop's predicate, whose `inputData` is what its body gave."""
    if depth > 20:
        return None
    if isinstance(value, dict):
        return {
            key: f"stepResults.{body}{item[len('inputData') :]}"
            if key == "path" and isinstance(item, str) and (item == "inputData" or item.startswith("inputData."))
            else _seen_from_inside(item, body, depth + 1)
            for key, item in value.items()
        }
    return [_seen_from_inside(item, body, depth + 1) for item in value] if isinstance(value, list) else value
