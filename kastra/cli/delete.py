"""`kastra delete`: delete objects by name, file or selector, and wait until they are gone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .arguments import Scope, Target, display, fetch, find_resource, parse_targets
from .completing import complete_objects
from .options import (
    DURATION,
    all_namespaces_option,
    dry_run_note,
    dry_run_option,
    examples,
    filename_option,
    load_valid_files,
    namespace_option,
    selector_options,
)
from .session import announced, owning, reading, say

if TYPE_CHECKING:
    from kastra.api.errors import StatusError
    from kastra.api.object import Object
    from kastra.app.operations import Operations
    from kastra.client.interface import Client, PropagationPolicy, Reader

_POLICIES: "dict[str, PropagationPolicy]" = {
    "background": "Background",
    "foreground": "Foreground",
    "orphan": "Orphan",
}


@click.command(
    epilog=examples(
        "kastra delete agent x y",
        "kastra delete -f manifests               what the files declare, in reverse order",
        "kastra delete runs -l team=a             by labels",
        "kastra delete system/support --cascade=orphan",
    )
)
@click.argument("arguments", nargs=-1, metavar="[KIND NAME... | KIND/NAME...]", shell_complete=complete_objects)
@namespace_option
@all_namespaces_option
@selector_options
@filename_option
@click.option("--all", "everything", is_flag=True, help="All objects of the kinds in the namespace.")
@click.option(
    "--cascade",
    type=click.Choice(sorted(_POLICIES)),
    default="background",
    help="What becomes of dependents: deleted after it, deleted before it, or left (default: background).",
)
@click.option("--wait/--no-wait", default=True, help="Return only when the objects are gone (default).")
@click.option("--timeout", type=DURATION, default=60.0, help="How long to wait for that (default: 60s).")
@click.option("--ignore-not-found", is_flag=True, help="Exit 0 when a named object isn't there.")
@dry_run_option
@click.option("-o", "--output", type=click.Choice(["name"]), help="Print names only.")
def delete(arguments: tuple[str, ...], **options: Any) -> int:
    """Delete objects."""
    _check(arguments, options)
    if options["dry_run"] == "client":
        return reading(lambda client: _preview(client, arguments, options))
    return owning(lambda kastra: _delete(kastra, arguments, options))


def _check(arguments: Sequence[str], options: dict[str, Any]) -> None:
    if options["filenames"]:
        if arguments or options["everything"] or options["selector"]:
            raise click.UsageError("-f already says which objects; kinds, names, --all and -l can't be given with it")
        return
    if not arguments:
        raise click.UsageError("say what to delete: KIND NAME, KIND/NAME, or -f")
    narrowed = options["everything"] or options["selector"] or options["field_selector"]
    named = len(arguments) > 1 or "/" in arguments[0]
    if named and options["everything"]:
        raise click.UsageError("setting 'all' parameter but found a non empty name")
    if not named and not narrowed:
        raise click.UsageError("resource(s) were provided, but no name was specified: give names, -l or --all")


async def _selected(
    client: "Reader", arguments: Sequence[str], options: dict[str, Any]
) -> "tuple[list[Object], list[StatusError]]":
    """The objects meant, in the order in which they are to go, and those that aren't there."""
    namespace = None if options["all_namespaces"] else options["namespace"]
    if options["filenames"]:
        loaded = load_valid_files(options["filenames"], recursive=options["recursive"])
        groups = []
        for manifest in reversed(loaded.manifests):
            target = Target(find_resource(client.scheme, manifest.ref.kind), (manifest.ref.name,))
            groups += await fetch(client, [target], Scope(manifest.ref.namespace or options["namespace"]))
    else:
        scope = Scope(namespace, options["selector"], options["field_selector"])
        groups = await fetch(client, parse_targets(client.scheme, arguments), scope)
    return [obj for group in groups for obj in group.objects], [error for group in groups for error in group.errors]


async def _preview(client: "Client", arguments: Sequence[str], options: dict[str, Any]) -> int:
    objects, missing = await _selected(client, arguments, options)
    for obj in objects:
        _print(client, obj, options)
    return _finish(objects, missing, options)


async def _delete(kastra: "Operations", arguments: Sequence[str], options: dict[str, Any]) -> int:
    from kastra.api.errors import NotFound, StatusError

    client = kastra.client
    objects, errors = await _selected(client, arguments, options)
    deleted: list[Object] = []
    failed: list[StatusError] = []
    for obj in objects:
        try:
            await client.delete(
                obj.ref,
                propagation_policy=_POLICIES[options["cascade"]],
                uid=obj.uid,
                dry_run=options["dry_run"] == "server",
            )
        except NotFound:
            pass  # Something else was quicker, such as the garbage collector with an owner deleted before.
        except StatusError as error:
            failed.append(error)
            continue
        deleted.append(obj)
        _print(client, obj, options)
    code = _finish(objects, errors, options)
    for failure in failed:
        say(f"Error from server ({failure.reason}): {failure.message}")
    if options["dry_run"] != "none":
        return 1 if failed else code
    with announced("waiting for the controllers"):
        await kastra.settle(options["timeout"])
    held = await _still_there(kastra.client, deleted, options) if options["wait"] else []
    return 1 if failed or held else code


async def _still_there(client: "Client", objects: "Sequence[Object]", options: dict[str, Any]) -> "list[Object]":
    """Wait until the objects are gone; those that aren't in time, each reported."""
    import anyio

    from .waiting import until_gone

    held: list[Object] = []
    with anyio.move_on_after(options["timeout"]) as scope:
        for obj in objects:
            held = [obj]
            with announced(f"waiting for {obj.kind.lower()}/{obj.name} to be gone"):
                await until_gone(client, obj.ref, obj.uid)
        held = []
    if scope.cancelled_caught:
        for obj in held:
            finalizers = ", ".join(obj.finalizers) or "its finalizers"
            say(f"error: timed out waiting for {obj.kind.lower()}/{obj.name} to be gone; {finalizers} may hold it")
    return held


def _print(client: "Reader", obj: "Object", options: dict[str, Any]) -> None:
    kind = display(find_resource(client.scheme, obj.ref.kind))
    if options["output"] == "name":
        click.echo(f"{kind}/{obj.name}")
    else:
        click.echo(f'{kind} "{obj.name}" deleted{dry_run_note(options["dry_run"])}')


def _finish(objects: "Sequence[Object]", missing: "Sequence[StatusError]", options: dict[str, Any]) -> int:
    if not objects and not missing:
        say("No resources found")
    if options["ignore_not_found"]:
        return 0
    for error in missing:
        say(f"Error from server ({error.reason}): {error.message}")
    return 1 if missing else 0
