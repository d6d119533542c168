"""`try`: a scope with `retry` and `catch`.

    communication   tool, rate_limit      timeout         timeout
    authorization   authorization         authentication  authorization
    validation      validation, output    expression      expression
    runtime         model, in_doubt, no_progress          configuration   (nothing: it keeps a workflow from being Ready)

An error of one of the language's own types is Kastra's own error, or one that was raised under that type. Read next:
`kastra.migrate.serverless.calls`.
"""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kastra.migrate.node import Node

from .cel import Seen, quoted
from .place import Unmapped, condition, duration, literal

if TYPE_CHECKING:
    from .tasks import Task

_STANDARD = re.compile(
    r"https://(?:serverlessworkflow|open-?workflow[^/]*)\.(?:io|org)/(?:spec/[^/]+|dsl)/errors/(?:types/)?([a-z]+)"
)
_OURS = {
    "communication": ("tool", "rate_limit"),
    "timeout": ("timeout",),
    "authorization": ("authorization",),
    "authentication": ("authorization",),
    "validation": ("validation", "output"),
    "expression": ("expression",),
    "runtime": ("model", "in_doubt", "no_progress"),
    "configuration": (),
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAKEN = frozenset({"input", "prev", "steps", "state", "run", "lastError", "output", "value", "event", "iteration"})


def try_(task: "Task", node: Node) -> dict[str, Any]:
    """The step of a `try` task."""
    inside = replace(task.seen, dot="prev", names={**task.seen.names, "input": "prev"})
    catch = task.node.get("catch")
    if catch is None:
        raise Unmapped(node, "lacks catch")
    step: dict[str, Any] = {"do": {"steps": task.steps(node, inside)}}
    given = catch.get("as")
    wanted = literal(given, "the name of an error") if given is not None else "error"
    if not _NAME.fullmatch(wanted):
        raise Unmapped(given or catch, f'"{wanted}" can\'t be the name of a variable')
    name = f"{wanted}_" if wanted in _TAKEN else wanted
    seen = replace(task.seen, names={**task.seen.names, wanted: name}, errors=task.seen.errors | {wanted})
    tests = _tests(catch, seen, name)
    retry = catch.get("retry")
    if retry is not None:
        step["retry"] = _retry(task, retry, seen, tests, name)
    caught: dict[str, Any] = {"when": " && ".join(tests)} if tests else {}
    if name != "error":
        caught["as"] = name
    body = catch.get("do")
    if body is None:
        if retry is None:
            caught["output"] = "${{ prev }}"
            step["catch"] = [caught]
        # With retries alone, what they can't help fails.
        return step
    steps = task.steps(body, replace(seen, dot="prev", nothing=True))
    if _reads(steps, "prev"):
        # In a catch `prev` is the error; the value from before comes from a step around it.
        held = task.converter.fresh(f"{task.id}-input")
        within = {"id": task.converter.fresh(f"{task.id}-caught"), "input": {"from": held}, "do": {"steps": steps}}
        tried = {"id": task.converter.fresh(f"{task.id}-try"), **step, "catch": [{**caught, "steps": [within]}]}
        hold = {"id": held, "set": {}, "output": {"as": f"${{{{ {task.seen.dot} }}}}"}}
        return {"do": {"steps": [hold, tried]}}
    caught["steps"] = steps
    step["catch"] = [caught]
    return step


def _reads(value: Any, name: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9_.\"]){name}(?![A-Za-z0-9_\"])", str(value)) is not None


def _tests(catch: Node, seen: Seen, name: str) -> list[str]:
    """CEL conditions that all hold for what is caught."""
    tests = []
    errors = catch.get("errors")
    wanted = errors.get("with") if errors is not None else None
    if wanted is not None and isinstance(wanted.value, dict):
        tests += [_matches(wanted.child(key), key, name) for key in wanted.value]
    for key, holds in (("when", ""), ("exceptWhen", "!")):
        test = catch.get(key)
        if test is not None:
            tests.append(f"{holds}({condition(test, seen)})")
    return tests


def _matches(node: Node, key: str, name: str) -> str:
    if key == "type":
        found = types_of(literal(node, "the type of an error"))
        listed = ", ".join(quoted(one) for one in found)
        return f"{name}.type in [{listed}]" if len(found) > 1 else f"{name}.type == {listed}"
    if key == "status":
        if isinstance(node.value, bool) or not isinstance(node.value, int):
            raise Unmapped(node, "isn't a number that is written out")
        return f"{name}.?details.?status.orValue(0) == {node.value}"
    if key == "title":
        return f"{name}.title == {quoted(literal(node, 'the title of an error'))}"
    if key in ("detail", "details"):
        return f'{name}.?details.?detail.orValue("") == {quoted(literal(node, "the detail of an error"))}'
    raise Unmapped(node, f"selects errors by {key}")


def types_of(text: str) -> list[str]:
    """The types under which an error of that type shows up here."""
    match = _STANDARD.fullmatch(text)
    return [text, *_OURS.get(match[1], ())] if match else [text]


def _retry(task: "Task", node: Node, seen: Seen, tests: list[str], name: str) -> dict[str, Any]:
    policy = task.converter.reusable("retries", node)
    ctx, draft = task.converter.ctx, task.converter.draft
    conditions = [re.sub(rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])", "error", test) for test in tests]
    plain = replace(seen, names={key: "error" if key in seen.errors else value for key, value in seen.names.items()})
    for key, holds in (("when", ""), ("exceptWhen", "!")):
        test = policy.get(key)
        if test is not None:
            conditions.append(f"{holds}({condition(test, plain)})")
    made: dict[str, Any] = {"jitter": 0}
    limit = policy.get("limit")
    attempt = limit.get("attempt") if limit is not None else None
    count = attempt.get("count") if attempt is not None else None
    if count is not None and not isinstance(count.value, bool) and isinstance(count.value, int) and count.value >= 0:
        made["limit"] = count.value
    else:
        made["limit"] = 1000
        ctx.note("note", draft.about, policy, "the retries had no limit; there are 1,000 at most now")
    whole = limit.get("duration") if limit is not None else None
    if whole is not None:
        made["maxElapsed"] = duration(whole)
    delay = policy.get("delay")
    made["initialInterval"] = duration(delay) if delay is not None else "0s"
    made["backoff"] = _backoff(policy)
    jitter = policy.get("jitter")
    for left in (*([jitter] if jitter is not None else []), *(attempt.untaken() if attempt is not None else [])):
        ctx.dropped(draft.about, left)
    if conditions:
        made["when"] = " && ".join(conditions)
    for left in policy.untaken():
        ctx.dropped(draft.about, left)
    return made


def _backoff(policy: Node) -> float | int:
    given = policy.get("backoff")
    if given is None or given.has("constant") or given.value == {"constant": None}:
        return 1
    if "exponential" in (given.value if isinstance(given.value, dict) else {}):
        return 2
    raise Unmapped(given, "grows by a step (linear), and delays grow by a factor here")
