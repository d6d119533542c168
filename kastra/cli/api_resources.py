"""`kastra api-resources`: which kinds there are, and what they may be called."""

from typing import TYPE_CHECKING, Any

import click

from .arguments import resources_once
from .layout import aligned
from .session import reading

if TYPE_CHECKING:
    from kastra.api.scheme import Resource
    from kastra.client.interface import Client

_HEADERS = ("NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND")
_WIDE = ("VERBS", "SUBRESOURCES", "CATEGORIES")


@click.command()
@click.option("--api-group", default=None, metavar="GROUP", help="Only kinds of this group; '' for the core group.")
@click.option(
    "--namespaced", type=click.BOOL, default=None, help="true: only namespaced kinds; false: only the others."
)
@click.option("--categories", default="", metavar="NAME[,NAME]", help="Only kinds in all of these categories.")
@click.option("--sort-by", type=click.Choice(["name", "kind"]), help="Order (default: by group, then name).")
@click.option("--no-headers", is_flag=True, help="Rows without headers.")
@click.option(
    "-o", "--output", type=click.Choice(["wide", "name"]), help="wide adds columns; name prints PLURAL.GROUP."
)
def api_resources(**options: Any) -> int:
    """List the kinds that exist."""
    return reading(lambda client: _list(client, options))


async def _list(client: "Client", options: dict[str, Any]) -> int:
    wanted = frozenset(filter(None, options["categories"].split(",")))
    found = [
        resource
        for resource in resources_once(client.scheme)
        if options["api_group"] in (None, resource.group)
        and options["namespaced"] in (None, resource.namespaced)
        and wanted <= set(resource.categories)
    ]
    if options["sort_by"]:
        found.sort(key=lambda resource: resource.plural if options["sort_by"] == "name" else resource.kind)
    else:
        found.sort(key=lambda resource: (resource.group, resource.plural))
    if options["output"] == "name":
        lines = [resource.group_resource for resource in found]
    else:
        wide = options["output"] == "wide"
        headers = [] if options["no_headers"] else [(*_HEADERS, *(_WIDE if wide else ()))]
        lines = aligned([*headers, *(_row(resource, wide=wide) for resource in found)])
    if lines:
        click.echo("\n".join(lines))
    return 0


def _row(resource: "Resource", *, wide: bool) -> tuple[str, ...]:
    row = (
        resource.plural,
        ",".join(resource.short_names),
        resource.api_version,
        str(resource.namespaced).lower(),
        resource.kind,
    )
    if not wide:
        return row
    subresources = [*(["status"] if resource.has_status else []), *(["scale"] if resource.scale else [])]
    return (
        *row,
        ",".join(resource.verbs),
        ",".join([*subresources, *resource.subresources]),
        ",".join(resource.categories),
    )
