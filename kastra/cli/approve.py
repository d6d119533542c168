"""`kastra approve NAME`: decide about an Approval; without a name, list those that wait.

The decision is a write of the Approval's status, as `kubectl patch --subresource=status` does it: the same permission
(approvals/status), the same checks, and who decided is recorded by the server. On a store of one's own the Run is then
executed here until it ends or waits again. Read next: `kastra.cli.control`.
"""

import sys
from typing import TYPE_CHECKING, Any

import click

from .options import all_namespaces_option, examples, namespace_option
from .resting import rests, tell
from .run import output_text, read_input
from .session import owning, reading, say

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.app.operations import Operations
    from kastra.client.interface import Client

_DONE = {"approve": "approved", "edit": "approved with other arguments", "reject": "rejected"}


@click.command(
    epilog=examples(
        "kastra approve                                   what waits for a decision",
        "kastra approve publish-7c1d0a2b9e --reason 'looks good'",
        "kastra approve publish-7c1d0a2b9e --reject --reason 'wrong customer'",
        "kastra approve refund-1b9c44ae02 --arguments '{\"amount\": 10}'     agree, with other arguments",
    )
)
@click.argument("name", required=False)
@namespace_option
@all_namespaces_option
@click.option("--reject", is_flag=True, help="Refuse it.")
@click.option("--reason", default="", metavar="TEXT", help="Why; recorded, and told to whoever asked.")
@click.option(
    "--arguments", metavar="JSON|@FILE|-", help="Call the tool with these arguments instead (a .yaml file, too)."
)
def approve(
    name: str | None, namespace: str, all_namespaces: bool, reject: bool, reason: str, arguments: str | None
) -> int:
    """Agree to what a Run asks, or refuse it."""
    if name is None:
        if reject or reason or arguments is not None:
            raise click.UsageError("say which: kastra approve NAME; without a name, those that wait are listed")
        return reading(lambda client: _list(client, "" if all_namespaces else namespace))
    if reject and arguments is not None:
        raise click.UsageError("--reject and --arguments exclude each other")
    decision: dict[str, Any] = {"verdict": "reject" if reject else "approve"}
    if arguments is not None:
        decision = {"verdict": "edit", "args": read_input(arguments, "--arguments")}
        if not isinstance(decision["args"], dict):
            raise ValueError("--arguments: an object of named arguments is needed")
    if reason:
        decision["reason"] = reason
    bare = name.partition("/")[2] or name
    return owning(lambda operations: _decide(operations, bare, namespace, decision), execute=True)


async def _list(client: "Client", namespace: str) -> int:
    from kastra.clock import SystemClock

    from .tables import KindTables, TableOptions

    page = await client.list("Approval.mastra.ai", namespace or None)
    waiting = [approval for approval in page.items if not _settled(approval)]
    if not waiting:
        say("nothing waits for a decision")
        return 0
    tables = KindTables(TableOptions(namespace=not namespace), SystemClock().now)
    for line in tables.lines(client.scheme.find("Approval.mastra.ai"), waiting):
        click.echo(line)
    for approval in waiting:
        say(f"{approval.name}: {approval.spec.get('message', '')}")
    return 0


def _settled(approval: "Object") -> bool:
    return bool((approval.status.get("decision") or {}).get("verdict")) or approval.status.get("phase") == "Obsolete"


async def _decide(operations: "Operations", name: str, namespace: str, decision: dict[str, Any]) -> int:
    from kastra.api.meta import ObjectRef
    from kastra.client.interface import PatchType

    ref = ObjectRef("Approval.mastra.ai", name, namespace)
    client = operations.client
    approval = await client.patch(ref, {"status": {"decision": decision}}, PatchType.MERGE, subresource="status")
    if not _settled(approval):
        needed = (approval.spec.get("approvers") or {}).get("count")
        click.echo(f"approval/{name}: noted; {len(approval.status.get('decisions') or ())} of {needed} have agreed")
        return 0
    click.echo(f"approval/{name} {_DONE[approval.status['decision']['verdict']]}")
    if not hasattr(operations, "bus"):
        return 0
    return await follow_here(operations, await _run_of(client, approval), (name,))


async def _run_of(client: "Client", approval: "Object") -> "Object":
    from kastra.api.meta import ObjectRef

    return await client.get(ObjectRef("Run.mastra.ai", approval.spec["runRef"]["name"], approval.namespace))


async def follow_here(operations: "Operations", run: "Object", answered: tuple[str, ...] = (), since: int = 0) -> int:
    """Execute a Run in this process until it has ended or waits for somebody; gives the exit code.

    Args:
        answered: what of it was just answered, see `rests`.
        since: number of the record that an answer has led to.
    """
    from kastra.app.running import RunFailed, follow_run
    from kastra.engine.lines import EventLines

    lines = EventLines(color=sys.stderr.isatty())

    def show(event: Any) -> None:
        if (line := lines.line(event)) is not None:
            say(line)

    result = await follow_run(operations.client, run, show, until=rests(answered, since))
    if result.phase in ("Suspended", "Waiting"):
        return tell(await operations.client.get(run.ref))
    if result.phase != "Succeeded":
        say(f"error: {RunFailed(result)}")
        return 1
    click.echo(output_text(result.output, "text"), nl=False)
    return 0
