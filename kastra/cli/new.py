"""`kastra new`: adds a kind or an object to the project. The files are `kastra.scaffold.additions`'."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import examples
from .session import reading, settings_of

if TYPE_CHECKING:
    from kastra.client.interface import Client
    from kastra.scaffold.additions import Added

_OBJECTS = {
    "agent": "an Agent whose model answers by rules",
    "model": "a Model and its ModelProvider",
    "network": "a Network of two Agents",
    "tool": "a Tool with its Python function and a test",
    "workflow": "a Workflow of two steps",
}


@click.command(
    epilog=examples(
        "kastra new kind DataSource --group example.com",
        "kastra new tool word-count",
        "kastra new agent librarian",
    )
)
@click.argument("what", metavar="kind|tool|agent|workflow|network|model", type=click.Choice(["kind", *_OBJECTS]))
@click.argument("name")
@click.option(
    "--group", default="", metavar="DOMAIN", help="API group of a kind (default: that of the project's kinds)."
)
@click.option("--plural", default="", metavar="NAME", help="Plural of a kind (default: the regular one).")
@click.option("--cluster", is_flag=True, help="Objects of the kind belong to no namespace.")
def new(what: str, name: str, group: str, plural: str, cluster: bool) -> int:
    """Add a kind or an object to the project.

    A kind comes with a definition in crds/, a controller with its typed view, an example and a test; a tool with a manifest, a
    Python function in tools/ and a test; all others are a manifest. Everything runs at once, without key and network.

    A NAME that another kind or object of the project has is refused, and no file is overwritten.
    """
    if what == "kind":
        added = reading(lambda client: _kind(client, name, group, plural, cluster=cluster))
    else:
        from kastra.scaffold.additions import add_object

        given = [flag for flag, value in (("--group", group), ("--plural", plural), ("--cluster", cluster)) if value]
        if given:
            raise click.UsageError(f"{given[0]} is for kinds only")
        added = add_object(settings_of().project, what, name)
    for file in added.files:
        click.echo(f"{file} created")
    click.echo("next:")
    for command in added.commands:
        click.echo(f"  {command}")
    return 0


async def _kind(client: "Client", name: str, group: str, plural: str, *, cluster: bool) -> "Added":
    from kastra.scaffold.additions import add_kind

    settings = settings_of()
    return add_kind(
        Path(settings.project),
        name,
        group,
        plural=plural,
        cluster=cluster,
        scheme=client.scheme,
        controllers=settings.controllers,
    )
