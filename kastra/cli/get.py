"""`kastra get`: list objects, or follow their changes. Reads beside whoever owns the store, and never waits for it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .arguments import Found, Scope, Target, fetch, parse_targets
from .completing import complete_objects
from .options import (
    all_namespaces_option,
    examples,
    filename_option,
    load_valid_files,
    namespace_option,
    selector_options,
)
from .output import OutputFormat, document_writer, parse_format, sort_objects
from .session import reading, say
from .tables import CustomColumns, KindTables, TableOptions, TablePrinter

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.client.interface import Client


@click.command(
    epilog=examples(
        "kastra get agents                     all Agents of the namespace",
        "kastra get agents,tools -A            several kinds, all namespaces",
        "kastra get workflow/x -o yaml         one object as YAML",
        "kastra get kastra                     everything of Kastra's kinds",
        "kastra get runs -w                    and go on printing changes",
    )
)
@click.argument(
    "arguments", nargs=-1, metavar="[KIND[,KIND] [NAME...] | KIND/NAME...]", shell_complete=complete_objects
)
@namespace_option
@all_namespaces_option
@selector_options
@filename_option
@click.option(
    "-o", "--output", default="", metavar="FORMAT", help="wide, yaml, json, name, jsonpath=..., custom-columns=..."
)
@click.option("--sort-by", default="", metavar="JSONPATH", help="Sort by the value there: .metadata.creationTimestamp")
@click.option("--no-headers", is_flag=True, help="Rows without headers.")
@click.option("--show-labels", is_flag=True, help="A last column with all labels.")
@click.option("--show-kind", is_flag=True, help="Names with their kind, as KIND/NAME.")
@click.option("--show-managed-fields", is_flag=True, help="Keep metadata.managedFields in YAML and JSON.")
@click.option("--ignore-not-found", is_flag=True, help="Exit 0 when a named object isn't there.")
@click.option("-w", "--watch", is_flag=True, help="List, then follow the changes.")
@click.option("--watch-only", is_flag=True, help="Follow the changes without listing first.")
@click.option("--output-watch-events", is_flag=True, help="A first column that says ADDED, MODIFIED or DELETED.")
def get(arguments: tuple[str, ...], **options: Any) -> int:
    """List objects."""
    form = parse_format(options["output"])
    if options["sort_by"]:
        sort_objects((), options["sort_by"])  # says what is wrong with the path before anything is opened
    if options["watch"] or options["watch_only"]:
        return reading(lambda client: _watch(client, arguments, form, options))
    return reading(lambda client: _list(client, arguments, form, options))


async def _list(client: "Client", arguments: Sequence[str], form: OutputFormat, options: dict[str, Any]) -> int:
    groups, single = await _find(client, arguments, options)
    errors = [error for group in groups for error in group.errors]
    found = [group for group in groups if group.objects]
    if options["sort_by"]:
        for group in found:
            group.objects = sort_objects(group.objects, options["sort_by"])
    if form.is_table:
        printer = _printer(form, options, several=len({group.resource.group_resource for group in groups}) > 1)
        for group in found:
            click.echo("\n".join(printer.lines(group.resource, group.objects)))
        if not found and not errors:
            where = (
                "" if options["all_namespaces"] or not _namespaced(groups) else f" in {options['namespace']} namespace"
            )
            say(f"No resources found{where}.")
    elif found or not errors:
        objects = [obj for group in found for obj in group.objects]
        write = document_writer(form, managed_fields=options["show_managed_fields"])
        click.echo(write(objects, single), nl=False)
    if options["ignore_not_found"]:
        return 0
    for error in errors:
        say(f"Error from server ({error.reason}): {error.message}")
    return 1 if errors else 0


async def _find(client: "Client", arguments: Sequence[str], options: dict[str, Any]) -> tuple[list[Found], bool]:
    """What was asked for, and whether that is one object by its name."""
    if options["filenames"]:
        if arguments:
            raise ValueError("when -f is given, kinds and names can't be")
        return await _find_of_files(client, options)
    targets = parse_targets(client.scheme, arguments)
    scope = _scope(options)
    return await fetch(client, targets, scope), sum(len(target.names) for target in targets) == 1 == len(targets)


async def _find_of_files(client: "Client", options: dict[str, Any]) -> tuple[list[Found], bool]:
    from .arguments import find_resource

    loaded = load_valid_files(options["filenames"], recursive=options["recursive"])
    groups: list[Found] = []
    for manifest in loaded.manifests:
        target = Target(find_resource(client.scheme, manifest.ref.kind), (manifest.ref.name,))
        [group] = await fetch(client, [target], Scope(manifest.ref.namespace or options["namespace"]))
        if groups and groups[-1].resource == group.resource:
            groups[-1].objects += group.objects
            groups[-1].errors += group.errors
        else:
            groups.append(group)
    return groups, len(loaded.manifests) == 1


def _scope(options: dict[str, Any]) -> Scope:
    namespace = None if options["all_namespaces"] else options["namespace"]
    return Scope(namespace, options["selector"], options["field_selector"])


def _namespaced(groups: Sequence[Found]) -> bool:
    return any(group.resource.namespaced for group in groups)


def _printer(form: OutputFormat, options: dict[str, Any], *, several: bool = False) -> TablePrinter:
    if form.name == "custom-columns":
        return CustomColumns(form.argument, headers=not options["no_headers"])
    from kastra.clock import SystemClock

    shown = TableOptions(
        wide=form.name == "wide",
        headers=not options["no_headers"],
        namespace=options["all_namespaces"],
        kind=options["show_kind"] or several,
        labels=options["show_labels"],
        events=options["output_watch_events"],
    )
    return KindTables(shown, SystemClock().now)


async def _watch(client: "Client", arguments: Sequence[str], form: OutputFormat, options: dict[str, Any]) -> int:
    """Print present objects and then each change, until interrupted."""
    import anyio.lowlevel

    from kastra.api.errors import Expired, not_found

    if options["filenames"] or options["sort_by"]:
        raise ValueError("--watch goes with kinds and names only, and prints changes in the order of their arrival")
    targets = parse_targets(client.scheme, arguments)
    if len(targets) != 1 or len(targets[0].names) > 1:
        raise ValueError("you may only specify a single resource type, and at most one name, with --watch")
    [target] = targets
    scope = _scope(options)
    if target.names and (scope.label_selector or scope.field_selector):
        raise ValueError("name cannot be provided when a selector is specified")
    printed = _printed(target, form, options)
    kind = target.resource.group_resource
    labels = scope.label_selector
    fields = f"metadata.name={target.names[0]}" if target.names else scope.field_selector
    listed, event_type = not options["watch_only"], "ADDED"
    while True:
        page = await client.list(kind, scope.namespace, label_selector=labels, field_selector=fields)
        if target.names and not page.items and event_type == "ADDED":
            raise not_found(target.resource.plural, target.resource.group, target.names[0])
        for obj in page.items if listed else ():
            printed(obj, event_type)
        try:
            async with client.watch(
                kind,
                scope.namespace,
                label_selector=labels,
                field_selector=fields,
                resource_version=page.resource_version,
            ) as events:
                async for event in events:
                    if event.type != "BOOKMARK":
                        printed(event.object, event.type)
        except Expired:
            pass
        # Too much happened to be told one by one: the present state stands for it.
        listed, event_type = True, "MODIFIED"
        await anyio.lowlevel.checkpoint()


def _printed(target: Target, form: OutputFormat, options: dict[str, Any]) -> Any:
    """A function that prints one object at once."""
    if form.is_table:
        printer = _printer(form, options)

        def row(obj: "Object", event: str) -> None:
            click.echo("\n".join(printer.lines(target.resource, [obj], event=event)))

        return row
    write = document_writer(form, managed_fields=options["show_managed_fields"])

    def document(obj: "Object", event: str) -> None:
        separator = "---\n" if form.name == "yaml" else ""
        click.echo(separator + write([obj], True), nl=form.name == "jsonpath")

    return document
