"""`kastra label` and `kastra annotate`: set, change and remove labels and annotations of objects."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from .arguments import Scope, Target, display, fetch, find_resource, parse_targets
from .completing import complete_objects
from .options import (
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
    from kastra.api.object import Object
    from kastra.app.operations import Operations
    from kastra.client.interface import Client, Reader

_MANAGERS = {"labels": "kastra-label", "annotations": "kastra-annotate"}


def _options(command: Callable[..., int]) -> Callable[..., int]:
    for add in (
        click.option("-o", "--output", type=click.Choice(["name"]), help="Print names only."),
        dry_run_option,
        click.option("--list", "list_only", is_flag=True, help="Print what the objects have instead of changing it."),
        click.option("--overwrite", is_flag=True, help="Change keys that have another value."),
        click.option("--all", "everything", is_flag=True, help="All objects of the kinds in the namespace."),
        filename_option,
        selector_options,
        all_namespaces_option,
        namespace_option,
        click.argument(
            "arguments", nargs=-1, metavar="KIND NAME... KEY=VALUE... KEY-...", shell_complete=complete_objects
        ),
    ):
        command = add(command)
    return command


@click.command(
    epilog=examples(
        "kastra label agent x team=a",
        "kastra label agent/x team=b --overwrite",
        "kastra label agents --all team-             remove it everywhere",
    )
)
@_options
def label(arguments: tuple[str, ...], **options: Any) -> int:
    """Set or remove labels of an object."""
    return _command("labels", "labeled", arguments, options)


@click.command(
    epilog=examples(
        'kastra annotate agent x note="checked by me"',
        "kastra annotate agent/x note-",
    )
)
@_options
def annotate(arguments: tuple[str, ...], **options: Any) -> int:
    """Set or remove annotations of an object."""
    return _command("annotations", "annotated", arguments, options)


def _command(field: str, done: str, arguments: Sequence[str], options: dict[str, Any]) -> int:
    objects, changes = split_changes(arguments)
    if options["list_only"]:
        if changes:
            raise click.UsageError(f"--list prints {field}; it can't change any")
        return reading(lambda client: _list(client, objects, field, options))
    if not changes:
        raise click.UsageError(f"at least one {field[:-1]} update is required: KEY=VALUE, or KEY- to remove")
    named = len(objects) > 1 or any("/" in argument for argument in objects)
    if bool(objects) == bool(options["filenames"]):
        raise click.UsageError("one or more resources must be specified: KIND NAME, KIND/NAME, or -f")
    if objects and not named and not (options["everything"] or options["selector"] or options["field_selector"]):
        raise click.UsageError("say which objects: names, -l or --all")
    if options["dry_run"] == "client":
        return reading(lambda client: _preview(client, objects, field, done, changes, options))
    return owning(lambda kastra: _change(kastra, objects, field, done, changes, options))


def split_changes(arguments: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    """The leading arguments that mean objects, and the changes after them; None removes a key.

    Raises:
        ValueError: an object after a change, a key without a name, or one both set and removed.
    """
    objects: list[str] = []
    changes: dict[str, str | None] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        removal = not equals and argument.endswith("-")
        if not equals and not removal:
            if changes:
                raise ValueError(f'all resources must be specified before changes: "{argument}"')
            objects.append(argument)
            continue
        key = argument[:-1] if removal else key
        if not key:
            raise ValueError(f'"{argument}" names no key')
        if key in changes:
            raise ValueError(f'"{key}" is given twice')
        changes[key] = None if removal else value
    return objects, changes


async def _selected(client: "Reader", objects: Sequence[str], options: dict[str, Any]) -> "list[Object]":
    namespace = None if options["all_namespaces"] else options["namespace"]
    scope = Scope(namespace, options["selector"], options["field_selector"])
    if options["filenames"]:
        loaded = load_valid_files(options["filenames"], recursive=options["recursive"])
        groups = []
        for manifest in loaded.manifests:
            target = Target(find_resource(client.scheme, manifest.ref.kind), (manifest.ref.name,))
            groups += await fetch(client, [target], Scope(manifest.ref.namespace or options["namespace"]))
    else:
        groups = await fetch(client, parse_targets(client.scheme, objects), scope)
    for group in groups:
        if group.errors:
            raise group.errors[0]
    return [obj for group in groups for obj in group.objects]


async def _list(client: "Client", objects: Sequence[str], field: str, options: dict[str, Any]) -> int:
    found = await _selected(client, objects, options)
    for obj in found:
        if len(found) > 1:
            click.echo(f"Listing {field} for {obj.kind}.{obj.api_version}/{obj.name}:")
        for key, value in sorted((obj.metadata.get(field) or {}).items()):
            click.echo(f"{' ' if len(found) > 1 else ''}{key}={value}")
    return 0


async def _preview(
    client: "Client",
    objects: Sequence[str],
    field: str,
    done: str,
    changes: Mapping[str, str | None],
    options: dict[str, Any],
) -> int:
    for obj in await _selected(client, objects, options):
        needed = needed_changes(obj.metadata.get(field) or {}, changes, overwrite=options["overwrite"])
        _print(client, obj, done, needed, options)
    return 0


async def _change(
    kastra: "Operations",
    objects: Sequence[str],
    field: str,
    done: str,
    changes: Mapping[str, str | None],
    options: dict[str, Any],
) -> int:
    from kastra.api.errors import StatusError
    from kastra.client.interface import PatchType, WriteOptions

    write = WriteOptions(dry_run=options["dry_run"] == "server", field_manager=_MANAGERS[field])
    failed = False
    found = await _selected(kastra.client, objects, options)
    if not found:
        say("No resources found")
    for obj in found:
        try:
            needed = needed_changes(obj.metadata.get(field) or {}, changes, overwrite=options["overwrite"])
            if needed:
                await kastra.client.patch(obj.ref, {"metadata": {field: needed}}, PatchType.MERGE, write)
        except (StatusError, ValueError) as error:
            say(f"error: {obj.kind.lower()}/{obj.name}: {error}")
            failed = True
        else:
            _print(kastra.client, obj, done, needed, options)
    with announced("waiting for the controllers"):
        await kastra.settle()
    return 1 if failed else 0


def needed_changes(
    present: Mapping[str, str], changes: Mapping[str, str | None], *, overwrite: bool
) -> dict[str, str | None]:
    """What of `changes` is not so already; None removes.

    Raises:
        ValueError: a key has another value, and `overwrite` is false.
    """
    for key, value in changes.items():
        if value is not None and not overwrite and present.get(key, value) != value:
            raise ValueError(f"'{key}' already has a value ({present[key]}), and --overwrite is false")
    return {key: value for key, value in changes.items() if present.get(key) != value}


def _print(
    client: "Reader", obj: "Object", done: str, needed: Mapping[str, str | None], options: dict[str, Any]
) -> None:
    name = f"{display(find_resource(client.scheme, obj.ref.kind))}/{obj.name}"
    if options["output"] == "name":
        click.echo(name)
        return
    verb = done if needed else f"not {done}"
    if needed and done == "labeled" and all(value is None for value in needed.values()):
        verb = "unlabeled"
    click.echo(f"{name} {verb}{dry_run_note(options['dry_run'])}")
