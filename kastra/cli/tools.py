"""`kastra tools`: the built-in toolkit, its groups, and what each tool takes.

Read next: `kastra.tool.toolkit.catalogue`.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .layout import aligned
from .options import examples

if TYPE_CHECKING:
    from kastra.tool.toolkit.builtin import Builtin

_HEADERS = ("NAME", "EFFECT", "DESCRIPTION")


@click.command(epilog=examples("kastra tools", "kastra tools files", "kastra tools files.read", "kastra tools -o json"))
@click.argument("name", required=False, metavar="[GROUP | TOOL]")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="With schemas and annotations.")
@click.option("--no-headers", is_flag=True, help="Rows without headers.")
def tools(name: str | None, output: str | None, no_headers: bool) -> int:
    """List the built-in tools, or describe one."""
    from kastra.tool.toolkit.catalogue import GROUPS, builtins, named, problem

    found = tuple(builtins().values()) if name is None else named(name)
    if not found:
        raise click.ClickException(problem(name or "", {}, group=True)[1])
    if output is not None:
        from .output import OutputFormat, write_value

        described = [description_of(tool) for tool in found]
        shown = described[0] if name is not None and name not in GROUPS else described
        click.echo(write_value(OutputFormat(output), shown), nl=False)
    elif name is not None and name not in GROUPS:
        click.echo("\n".join(_page(found[0])))
    else:
        headers = [] if no_headers else [_HEADERS]
        click.echo(
            "\n".join(aligned([*headers, *((tool.name, tool.effect.title, tool.description) for tool in found)]))
        )
    return 0


def description_of(tool: "Builtin") -> dict[str, Any]:
    """Everything that is known of a tool."""
    from kastra.tool.toolkit.body import signature

    return {
        "name": tool.name,
        "description": tool.description,
        "annotations": tool.effect.annotations(),
        "settings": list(tool.settings),
        "inputSchema": dict(signature(tool.name).schema),
    }


def _page(tool: "Builtin") -> Iterable[str]:
    described = description_of(tool)
    schema: Mapping[str, Any] = described["inputSchema"]
    yield f"NAME:        {tool.name}"
    yield f"AS A TOOL:   {tool.shown}"
    yield f"EFFECT:      {tool.effect.title}"
    yield f"SETTINGS:    {', '.join(tool.settings) or 'none'}"
    yield f"TIMEOUT:     {tool.timeout:g}s"
    yield ""
    yield f"    {tool.description}"
    yield ""
    yield "ARGUMENTS:"
    rows = [
        (
            f"  {argument}",
            _type(node),
            "required" if argument in schema.get("required", ()) else _default(node),
            _text(node),
        )
        for argument, node in schema["properties"].items()
    ]
    yield from aligned(rows) if rows else ["  none"]


def _type(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return "|".join(str(value) for value in node["enum"])
    if "anyOf" in node:
        return "|".join(dict.fromkeys(_type(choice) for choice in node["anyOf"]))
    return str(node.get("type", "any"))


def _default(node: Mapping[str, Any]) -> str:
    return f"default {node['default']!r}" if "default" in node else "optional"


def _text(node: Mapping[str, Any]) -> str:
    return str(node.get("description", ""))
