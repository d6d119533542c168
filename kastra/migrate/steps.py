"""One step of the older dialects: what it calls, with what, and how its failures are met.

What a step leads to is not its own business: `kastra.migrate.workflows` decides that over all of them, and is to be read next.
"""

import re
from typing import Any

from . import tools
from .conditions import condition
from .context import CURRENT, Context, Draft, duration
from .expressions import sole_path
from .naming import object_name, reference, short
from .node import Node
from .paths import NotAPath, Scope, to_cel
from .transitions import step_id

CALLS = {
    "agent": ("agent", "agentId", "agentRef"),
    "tool": ("tool", "toolId", "toolRef"),
    "workflow": ("workflow", "workflowId", "workflowRef"),
    "network": ("network", "networkId"),
}
FUNCTION = ("function", "functionId", "handler", "execute", "fn")
KINDS = (
    "python", "branch", "loop", "forEach", "do", "sleep", "sleepUntil", "waitForEvent", "suspend", "approve", "approval", "set",
    "emit", "raise",
)  # fmt: skip
_WHOLE_INPUT = frozenset({"type", "from", "with", "schema", "prompt"})
_ENTRYPOINT = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_OLD_CONDITION = re.compile(r"\{\{|\$\{|===|!==")
_STEP_OUTPUT = re.compile(r'steps(?:\.(\w+)|\["([^"\\]+)"\])\.output')
_KEPT = (
    "description",
    "continueOnError",
    "delivery",
    "onInDoubt",
    "idempotencyKey",
    "sideEffects",
    "retries",
    "retryDelayMs",
    "onSkip",
)


def call(ctx: Context, draft: Draft, node: Node, step: dict[str, Any]) -> None:
    """Set what the step at `node` does: an agent, a tool, a workflow, a network or a function."""
    given = node.get("type", "kind")
    kind = given.text if given is not None else ""
    config = node.get("config")
    places = [node, *([config] if config is not None and isinstance(config.value, dict) else [])]
    for place in places:
        for call_kind, names in CALLS.items():
            found = place.get(*names)
            target = reference(found.value) if found is not None else None
            if target is not None:
                step[call_kind] = target
                if call_kind == "tool":
                    _known_tool(ctx, draft, step, short(target))
                return
    for name in KINDS:
        found = node.get(name)
        if found is not None:
            step["approve" if name == "approval" else name] = found.value
            return
    function = next((found for place in places if (found := place.get(*FUNCTION)) is not None), None)
    if function is not None and function.text:
        text = function.text.strip()
        if _ENTRYPOINT.fullmatch(text):
            step["python"] = {"entrypoint": text}
            return
        name = object_name(text)
        if (draft.namespace, name) in ctx.tools:
            step["tool"] = name
            return
        plain = name if name and re.fullmatch(r"[\w-]+", text) else f"{draft.name}-{step['id']}"
        step["tool"] = tools.stub(
            ctx,
            function,
            plain,
            draft.namespace,
            f'the function of step "{step["id"]}" of {draft.about} can\'t run here',
        )
        return
    if kind in CALLS:
        name = object_name(str(node.peek("name") or node.peek("id") or step["id"]))
        known = {"agent": ctx.agents, "tool": ctx.tools}.get(kind, set())
        if (draft.namespace, name) in known:
            step[kind] = name
            return
    name = f"{draft.name}-{step['id']}"
    step["tool"] = tools.stub(
        ctx, function or node, name, draft.namespace, f'it isn\'t said what step "{step["id"]}" of {draft.about} calls'
    )


def _known_tool(ctx: Context, draft: Draft, step: dict[str, Any], name: str) -> None:
    several = ctx.split.get((draft.namespace, name))
    if several and name not in several:
        step["tool"] = several[0]
        if len(several) > 1:
            ctx.note(
                "note",
                draft.about,
                draft.node,
                f'the tool "{name}" became several; step "{step["id"]}" calls the first',
            )


def common(ctx: Context, draft: Draft, node: Node, step: dict[str, Any], scope: Scope, *, milliseconds: bool) -> None:
    """Set the input, the output and what stands beside what a step does."""
    _input(ctx, draft, node, step, scope)
    _output(ctx, draft, node, step)
    for key in _KEPT:
        found = node.get(key)
        if found is not None:
            step[key] = found.value
    shown = node.get("name", "title")
    if shown is not None and shown.text and step_id(shown.text) != step["id"]:
        step["name"] = shown.text
    timeout = node.get("timeout", "timeoutMs")
    if timeout is not None:
        if isinstance(timeout.value, dict):
            step["timeout"] = timeout.value
        else:
            time = duration(timeout, milliseconds=milliseconds or timeout.path[-1] == "timeoutMs")
            if time is None:
                ctx.dropped(draft.about, timeout, "is no duration")
            else:
                step["timeout"] = time
    policy = node.get("retryPolicy", "retry", "retryConfig")
    if policy is not None:
        found_policy = tools.retry_policy(policy)
        if found_policy is None:
            ctx.dropped(draft.about, policy, "is no retry policy")
        else:
            step["retry"] = found_policy
    failure = node.get("onError")
    if failure is not None:
        if failure.value in ("fail", "continue"):
            step["onError"] = failure.value
        else:
            ctx.dropped(draft.about, failure, "has no counterpart", "write catch")
    test = node.get("when", "condition")
    if test is not None:
        # A step whose condition can't be read must not run as if it had none.
        step["when"] = condition_of(ctx, draft, test, scope) or "false"
    config = node.get("config")
    for left in [*node.untaken(), *(config.untaken() if config is not None else ())]:
        name = str(left.path[-1])
        if name in ("catch", "memoize", "compensate", "budget", "queue", "priority", "stream"):
            step[name] = left.value
        elif name not in (
            "id",
            "steps",
            "branches",
            "inputs",
            "dependsOn",
            "after",
            *(n for names in CALLS.values() for n in names),
            *FUNCTION,
        ):
            ctx.dropped(draft.about, left)


def condition_of(ctx: Context, draft: Draft, node: Node, scope: Scope) -> str | None:
    """A condition in CEL; None, with the object marked, where it has no counterpart."""
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, dict):
        inner = node.get("if", "expression", "when", "condition")
        if inner is not None:
            return condition_of(ctx, draft, inner, scope)
    if isinstance(node.value, str):
        if node.origin.api_version == CURRENT and not _OLD_CONDITION.search(node.value):
            # CEL already; what is wrong with it is found when the workflow is compiled.
            return node.value
        try:
            found, guesses = condition(node.value, scope)
        except NotAPath as error:
            ctx.stub(draft, node, f"the condition {error}", "write it in CEL")
            return None
        for guess in guesses:
            ctx.note("note", draft.about, node, guess)
        return found
    ctx.stub(draft, node, "is no condition", "write it in CEL")
    return None


def _input(ctx: Context, draft: Draft, node: Node, step: dict[str, Any], scope: Scope) -> None:
    prompt = node.get("prompt", "message")
    if prompt is not None and prompt.text:
        step["input"] = {"prompt": ctx.rewritten(draft, prompt, scope).value}
        node.get("input", "inputs")
        return
    config = node.get("config")
    listed = config.get("inputs", "input", "params") if config is not None and isinstance(config.value, dict) else None
    given = node.get("input", "inputs", "with", "params", "arguments", "variables") or listed
    if given is None:
        return
    value = given.value
    if isinstance(value, list):
        found = {}
        for index in range(len(value)):
            member = given.child(index)
            name = member.text or str(member.peek("name") or "") if isinstance(value[index], (str, dict)) else ""
            if not name:
                ctx.dropped(draft.about, member, "is an input without a name")
                continue
            found[name] = _sourced(ctx, draft, member, name, scope)
        if found:
            step["with"] = found
    elif isinstance(value, dict) and given.path[-1] != "with" and set(value) <= _WHOLE_INPUT and value:
        step["input"] = ctx.rewritten(draft, given, scope).value
    elif isinstance(value, dict):
        found = {}
        for name, member in given.entries():
            if isinstance(member.value, dict) and ("source" in member.value or "from" in member.value):
                found[name] = _sourced(ctx, draft, member, name, scope)
            else:
                found[name] = ctx.rewritten(draft, member, scope).value
        step["with"] = found
    elif isinstance(value, str):
        _text_input(ctx, draft, given, step, scope)
    else:
        ctx.dropped(draft.about, given, "is no input")


def _text_input(ctx: Context, draft: Draft, node: Node, step: dict[str, Any], scope: Scope) -> None:
    text = node.text.strip()
    if text in ("user-input", "input") or text in scope.steps or text in scope.labels:
        step["input"] = text
        return
    path = sole_path(text)
    bare = not path and re.fullmatch(r"(?:steps?|workflow|inputs?)\.[\w.\[\]-]+", text) is not None
    if path or bare:
        try:
            cel, _ = to_cel(path or text, scope)
        except NotAPath:
            cel = ""
        whole = _STEP_OUTPUT.fullmatch(cel)
        if whole:
            step["input"] = whole[1] or whole[2]
            return
        if cel == "input":
            step["input"] = "user-input"
            return
        if cel and bare:
            _value_input(step, f"${{{{ {cel} }}}}")
            return
    _value_input(step, ctx.rewritten(draft, node, scope).value)


def _value_input(step: dict[str, Any], text: Any) -> None:
    """The input is one text: an agent's message, or what others get under the name `input`."""
    if "agent" in step or "network" in step:
        step["input"] = {"prompt": text}
    else:
        step["with"] = {"input": text}


def _sourced(ctx: Context, draft: Draft, node: Node, name: str, scope: Scope) -> Any:
    """The value of one named input: a path without braces below `source`, or a value."""
    if isinstance(node.value, str):
        return f"${{{{ {to_cel(f'input.{name}', scope)[0]} }}}}" if re.fullmatch(r"[\w-]+", name) else "${{ input }}"
    source = node.get("source", "from", "path")
    if source is None:
        value = node.get("value", "default")
        return (
            ctx.rewritten(draft, value, scope).value
            if value is not None
            else f"${{{{ {to_cel(f'input.{name}', scope)[0]} }}}}"
            if re.fullmatch(r"[A-Za-z_][\w-]*", name)
            else None
        )
    return source_value(ctx, draft, source, scope)


def source_value(ctx: Context, draft: Draft, node: Node, scope: Scope) -> Any:
    """What stands in `source:`, a path with or without braces; a step's object `{step, path}` likewise."""
    if isinstance(node.value, dict):
        step, path = node.value.get("step"), node.value.get("path")
        if isinstance(step, str):
            node = Node(
                f"steps.{step}.output{'.' + path if isinstance(path, str) and path not in ('', '.') else ''}",
                node.origin,
                node.path,
            )
    if not isinstance(node.value, str) or "{" in node.value:
        return ctx.rewritten(draft, node, scope).value
    try:
        cel, guess = to_cel(node.value.lstrip("$"), scope)
    except NotAPath as error:
        ctx.stub(draft, node, f"the source {error}", "write it as ${{ }} in CEL")
        return node.value
    if guess:
        ctx.note("note", draft.about, node, guess)
    return f"${{{{ {cel} }}}}"


def _output(ctx: Context, draft: Draft, node: Node, step: dict[str, Any]) -> None:
    given = node.get("output", "outputs")
    schema = node.get("outputSchema")
    label = label_of(node)
    if (
        given is not None
        and isinstance(given.value, dict)
        and set(given.value) <= {"type", "as", "schema", "export", "sensitive"}
    ):
        step["output"] = given.value
        return
    if given is not None and not label and given.value:
        ctx.note("note", draft.about, given, "several outputs are declared; they are fields of the step's output")
    output: dict[str, Any] = {}
    if label:
        output["type"] = label
    if schema is not None and isinstance(schema.value, dict):
        output["schema"] = schema.value
    if output:
        step["output"] = output if "schema" in output else label


def label_of(node: Node) -> str:
    """The name that a step gives its output; empty if it gives none, or several."""
    given = node.peek("output") or node.peek("outputs")
    if isinstance(given, dict):
        given = (
            given.get("type")
            if "type" in given
            else (list(given) if len(given) == 1 and not _WHOLE_INPUT & set(given) else None)
        )
    if isinstance(given, list):
        given = given[0] if len(given) == 1 else None
    if isinstance(given, dict):
        given = given.get("name")
    return given if isinstance(given, str) and re.fullmatch(r"[A-Za-z_][\w-]*", given) else ""
