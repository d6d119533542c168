"""`kastra wait`: return when objects are as they should be, with an exit code that scripts can trust.

Only looks, so something else has to run the controllers meanwhile. Source: kubectl wait, whose messages these are.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .arguments import Found, Scope, Target, display, fetch, find_resource, parse_targets, ref_of
from .completing import complete_objects
from .options import (
    DURATION,
    all_namespaces_option,
    examples,
    filename_option,
    load_valid_files,
    namespace_option,
    selector_options,
)
from .session import reading, remote_flags, say, settings_of

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.api.object import Object
    from kastra.api.scheme import Resource
    from kastra.client.interface import Client

_WEEK = 7 * 86400.0
_FORMS = "condition=NAME[=VALUE], delete, create or jsonpath={.path}[=VALUE]"


@click.command(
    epilog=examples(
        "kastra wait --for=condition=Ready agent/x --timeout=60s",
        "kastra wait --for=condition=Succeeded run/y",
        "kastra wait --for=delete agent/x",
        "kastra wait --for=jsonpath='{.status.phase}'=Succeeded run/y",
    )
)
@click.argument("arguments", nargs=-1, metavar="[KIND NAME... | KIND/NAME...]", shell_complete=complete_objects)
@click.option("--for", "what", required=True, metavar="WHAT", help=f"{_FORMS}.")
@click.option("--timeout", type=DURATION, default=30.0, help="0 looks once, negative waits a week (default: 30s).")
@click.option("--all", "everything", is_flag=True, help="All objects of the kinds in the namespace.")
@namespace_option
@all_namespaces_option
@selector_options
@filename_option
def wait(arguments: tuple[str, ...], what: str, **options: Any) -> int:
    """Wait for a condition of objects."""
    named = len(arguments) > 1 or any("/" in argument for argument in arguments)
    narrowed = options["everything"] or options["selector"] or options["field_selector"]
    if bool(arguments) == bool(options["filenames"]) or (arguments and not named and not narrowed):
        raise click.UsageError("say what to wait for: KIND NAME, KIND/NAME, KIND with -l or --all, or -f")
    goal = parse_goal(what)
    return reading(lambda client: _wait(client, arguments, goal, options))


class Goal(NamedTuple):
    """What to wait for: `kind` is condition, jsonpath, delete or create; `satisfied` judges an object."""

    kind: str
    satisfied: "Callable[[Object], bool]"


def parse_goal(text: str) -> Goal:
    """The goal that `--for` names.

    Raises:
        ValueError: it has none of the forms, or a broken path.
    """
    kind, _, rest = text.partition("=")
    if kind in ("delete", "create") and not rest:
        return Goal(kind, lambda _: False)
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        wanted = (value or "True").lower()
        return Goal(kind, lambda obj: _condition_is(obj, name, wanted))
    if kind == "jsonpath" and rest:
        return Goal(kind, _path_goal(rest))
    raise ValueError(f'unrecognized condition: "{text}"; --for takes {_FORMS}')


def _condition_is(obj: "Object", name: str, wanted: str) -> bool:
    for condition in obj.status.get("conditions") or ():
        if condition.get("type", "").lower() == name.lower():
            # A condition that speaks of an older spec says nothing about this one.
            observed = condition.get("observedGeneration") or obj.status.get("observedGeneration") or obj.generation
            return observed >= obj.generation and str(condition.get("status", "")).lower() == wanted
    return False


def _path_goal(rest: str) -> "Callable[[Object], bool]":
    from kastra.api.jsonpath import compile_query
    from kastra.api.jsonpath_template import to_text

    # The path may hold "==" in a filter; braces tell where it ends.
    end = rest.rfind("}") + 1 if rest.startswith("{") else (rest + "=").index("=")
    path, value = rest[:end], rest[end:]
    if value and not value.startswith("="):
        raise ValueError(f'jsonpath wait format must be --for=jsonpath={{.path}}[=VALUE], not "{rest}"')
    query = compile_query(path)
    wanted = value[1:].strip("\"'")
    if not value:
        return lambda obj: bool(query(obj.data))
    return lambda obj: [to_text(found) for found in query(obj.data)] == [wanted]


async def _wait(client: "Client", arguments: Sequence[str], goal: Goal, options: dict[str, Any]) -> int:
    import anyio

    refs = await _refs(client, arguments, goal, options)
    if not refs:
        if goal.kind == "delete":
            return 0
        raise ValueError("no matching resources found")
    timeout = options["timeout"] if options["timeout"] >= 0 else _WEEK
    failures: list[str] = []

    async def one(resource: "Resource", ref: "ObjectRef", uid: str) -> None:
        failure = await _outcome(client, ref, uid, goal, timeout)
        if failure:
            failures.append(failure if failure != "timeout" else _timed_out(resource, ref))
        else:
            click.echo(f"{display(resource)}/{ref.name} condition met")

    async with anyio.create_task_group() as group:
        for resource, ref, uid in refs:
            group.start_soon(one, resource, ref, uid)
    for failure in failures:
        say(f"error: {failure}")
    if any(failure.startswith("timed out") for failure in failures):
        _explain_idleness()
    return 1 if failures else 0


async def _outcome(client: "Client", ref: "ObjectRef", uid: str, goal: Goal, timeout: float) -> str:
    """Empty when the goal is reached, `timeout`, or what went wrong."""
    import anyio

    from kastra.api.errors import NotFound

    from .waiting import until_created, until_gone, until_satisfied

    awaited: dict[str, Callable[[], Awaitable[Any]]] = {
        "delete": lambda: until_gone(client, ref, uid),
        "create": lambda: until_created(client, ref),
    }
    # Looking once takes a moment, too.
    with anyio.move_on_after(max(timeout, 0.2)):
        try:
            await awaited.get(goal.kind, lambda: until_satisfied(client, ref, goal.satisfied))()
        except NotFound as error:
            return error.message
        return ""
    return "timeout"


async def _refs(
    client: "Client", arguments: Sequence[str], goal: Goal, options: dict[str, Any]
) -> "list[tuple[Resource, ObjectRef, str]]":
    """Address and uid of each object meant; without a uid where it isn't there yet, or any more."""
    if options["filenames"]:
        loaded = load_valid_files(options["filenames"], recursive=options["recursive"])
        targets = [
            (
                Target(find_resource(client.scheme, m.ref.kind), (m.ref.name,)),
                Scope(m.ref.namespace or options["namespace"]),
            )
            for m in loaded.manifests
        ]
    else:
        namespace = None if options["all_namespaces"] else options["namespace"]
        scope = Scope(namespace, options["selector"], options["field_selector"])
        targets = [(target, scope) for target in parse_targets(client.scheme, arguments)]
    found: list[tuple[Resource, ObjectRef, str]] = []
    for target, scope in targets:
        [group] = await fetch(client, [target], scope)
        found += [(group.resource, obj.ref, obj.uid) for obj in group.objects]
        found += _absent(group, target, scope, goal)
    return found


def _absent(group: Found, target: Target, scope: Scope, goal: Goal) -> "list[tuple[Resource, ObjectRef, str]]":
    if goal.kind == "create":
        present = {obj.name for obj in group.objects}
        names = [name for name in target.names if name not in present]
        return [(group.resource, ref_of(group.resource, name, scope.namespace or ""), "") for name in names]
    if group.errors and goal.kind != "delete":
        raise group.errors[0]
    return []


def _timed_out(resource: "Resource", ref: "ObjectRef") -> str:
    return f"timed out waiting for the condition on {resource.plural}/{ref.name}"


def _explain_idleness() -> None:
    if remote_flags():
        return
    from kastra.sql.owner import holder_of

    if holder_of(settings_of().store) is None:
        say("Nothing is running the controllers of this store, so nothing will change: start 'kastra watch'.")
