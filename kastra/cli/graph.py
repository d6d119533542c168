"""`kastra graph workflow/NAME | network/NAME | run/NAME`: a picture, as text, SVG, Mermaid or DOT.

A Run is drawn with what it executes, as that was when the Run started, and with how each step went. Nothing is installed or
called for it. Read next: `kastra.cli.drawing`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import parse_one, ref_of
from .completing import complete_objects
from .options import examples, namespace_option
from .session import reading, say

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.client.interface import Client

    from .drawing.model import Diagram

_KINDS = ("Workflow", "Network", "Run")


@click.command(
    epilog=examples(
        "kastra graph workflow/recipe-suggestion",
        "kastra graph run/recipe-suggestion-x7k2p -o svg --file run.svg",
        "kastra graph network/research -o mermaid >> README.md",
    )
)
@click.argument("target", nargs=-1, required=True, metavar="KIND/NAME | NAME", shell_complete=complete_objects)
@namespace_option
@click.option(
    "-o", "--output", type=click.Choice(["text", "svg", "mermaid", "dot"]), default="text", help="Form of the picture."
)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
def graph(target: tuple[str, ...], namespace: str, output: str, file: Path | None) -> int:
    """Draw a Workflow, a Network or a Run."""
    diagram = reading(lambda client: _diagram(client, target, namespace))
    picture = _render(diagram, output)
    if file is None:
        click.echo(picture, nl=False)
    else:
        file.write_text(picture, encoding="utf-8")
        say(f"{file} written")
    return 0


def _render(diagram: "Diagram", form: str) -> str:
    from .drawing import dot, mermaid, svg, text

    writers = {"text": text.text, "svg": svg.svg, "mermaid": mermaid.mermaid, "dot": dot.dot}
    return writers[form](diagram)


async def _diagram(client: "Client", target: tuple[str, ...], namespace: str) -> "Diagram":
    # A name alone is that of a Workflow, what one draws most.
    named = ("workflow", *target) if len(target) == 1 and "/" not in target[0] else target
    resource, name = parse_one(client.scheme, named)
    if resource.kind not in _KINDS:
        raise ValueError(f"a {resource.kind} can't be drawn; these can: {', '.join(_KINDS)}")
    found = await client.get(ref_of(resource, name, namespace))
    if resource.kind == "Run":
        return await _of_run(client, found)
    return _of(resource.kind, f"{resource.kind.lower()}/{name}", _plain(resource.kind, found))


def _plain(kind: str, found: "Object") -> dict[str, Any]:
    """The normal form of a spec."""
    from kastra.controllers.network import NetworkView
    from kastra.controllers.workflow import WorkflowView

    view = WorkflowView if kind == "Workflow" else NetworkView
    return view.of(found).spec.plain()


def _of(kind: str, title: str, spec: dict[str, Any]) -> "Diagram":
    from .drawing.network import network_diagram
    from .drawing.workflow import workflow_diagram

    return workflow_diagram(title, spec) if kind == "Workflow" else network_diagram(title, spec)


async def _of_run(client: "Client", run: "Object") -> "Diagram":
    from .drawing.overlay import overlay, overlay_network

    definitions = [record async for record in client.connect(run.ref, "definition")]
    if not definitions:
        raise ValueError(f"run/{run.name} has not begun, so it is not yet known what it executes")
    [definition] = definitions
    kind, name = definition["kind"], definition["name"]
    if kind not in ("Workflow", "Network"):
        raise ValueError(f"run/{run.name} is of a {kind}, in which there is nothing to draw")
    diagram = _of(kind, f"run/{run.name} of {kind.lower()}/{name}", definition["spec"])
    phase = str(run.status.get("phase") or "")
    diagram.subtitle = phase
    if kind == "Workflow":
        overlay(diagram, [row async for row in client.connect(run.ref, "steps")], phase)
    else:
        events = client.connect(run.ref, "events", {"follow": False})
        overlay_network(diagram, [str(event["key"]) async for event in events if event.get("key")], phase)
    return diagram
