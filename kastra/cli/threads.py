"""`kastra threads`: the conversations that agents remember: list, show, search, clone, delete.

A Thread is an object like any other, so `kastra get threads` and `kastra delete thread/x` work as well; here is what hangs below it. Whom
threads belong to narrows down what is listed, searched or deleted: `--resource USER`. Read next: `kastra.memory.threads`.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .layout import one_line
from .options import all_namespaces_option, examples, namespace_option
from .session import owning, reading, say

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.api.object import Object
    from kastra.client.interface import Client

KIND = "Thread.mastra.ai"
_PAGE = 1000
_SHOWN = 2000

resource_option = click.option("--resource", default="", metavar="ID", help="Only threads that belong to it.")


@click.group(
    epilog=examples(
        "kastra threads list --resource ann",
        "kastra threads show holiday",
        "kastra threads search 'vegan dinner'           in all threads of the namespace",
        "kastra threads delete --resource ann           everything that is remembered about her",
    )
)
def threads() -> None:
    """Show, search, copy and delete what agents remember."""


@threads.command("list")
@namespace_option
@all_namespaces_option
@resource_option
def list_(namespace: str, all_namespaces: bool, resource: str) -> int:
    """List threads."""
    return reading(lambda client: _list(client, "" if all_namespaces else namespace, resource))


@threads.command()
@click.argument("name")
@namespace_option
@click.option("--since", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only messages after this one.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: one message per line.")
def show(name: str, namespace: str, since: int, output: str) -> int:
    """Print the messages of a thread."""
    return reading(lambda client: _show(client, _ref(name, namespace), since, output == "json"))


@threads.command()
@click.argument("text")
@namespace_option
@resource_option
@click.option("--thread", default="", metavar="NAME", help="Only in this thread.")
@click.option(
    "--limit", type=click.IntRange(1, 100), default=20, metavar="NUMBER", help="Messages of a thread, at most."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: one message per line.")
def search(text: str, namespace: str, resource: str, thread: str, limit: int, output: str) -> int:
    """Find messages that hold every word of TEXT."""

    async def find(client: "Client") -> int:
        where = [await client.get(_ref(thread, namespace))] if thread else await _threads(client, namespace, resource)
        return await _search(client, where, {"query": text, "limit": limit}, output == "json")

    return reading(find)


@threads.command()
@click.argument("name")
@click.argument("new_name")
@namespace_option
@click.option("--resource", default="", metavar="ID", help="Whom the copy belongs to (default: the same).")
def clone(name: str, new_name: str, namespace: str, resource: str) -> int:
    """Copy a thread with its messages."""
    body = {"name": new_name, **({"resourceId": resource} if resource else {})}

    async def copy(client: "Client") -> int:
        async for made in client.connect(_ref(name, namespace), "clone", body):
            click.echo(f"thread/{made['metadata']['name']} created")
        return 0

    return owning(lambda operations: copy(operations.client))


@threads.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@namespace_option
@resource_option
def delete(names: tuple[str, ...], namespace: str, resource: str) -> int:
    """Delete threads and erase all that hangs on them; waits until that is done."""
    if bool(names) == bool(resource):
        raise click.UsageError("say which: names of threads, or --resource ID")
    return owning(lambda operations: _delete(operations.client, names, namespace, resource))


def _ref(name: str, namespace: str) -> "ObjectRef":
    from kastra.api.meta import ObjectRef

    return ObjectRef(KIND, name.partition("/")[2] or name, namespace)


async def _threads(client: "Client", namespace: str, resource: str) -> "list[Object]":
    page = await client.list(KIND, namespace or None)
    return [thread for thread in page.items if not resource or thread.spec.get("resourceId") == resource]


async def _list(client: "Client", namespace: str, resource: str) -> int:
    from kastra.clock import SystemClock

    from .tables import KindTables, TableOptions

    found = await _threads(client, namespace, resource)
    if not found:
        say("no threads found")
        return 0
    tables = KindTables(TableOptions(namespace=not namespace), SystemClock().now)
    for line in tables.lines(client.scheme.find(KIND), found):
        click.echo(line)
    return 0


async def messages_in(client: "Client", ref: "ObjectRef", since: int) -> AsyncIterator[Mapping[str, Any]]:
    """All messages after one, page by page."""
    while True:
        count = 0
        async for row in client.connect(ref, "messages", None, since):
            count, since = count + 1, row["seq"]
            yield row
        if count < _PAGE:
            return


async def _show(client: "Client", ref: "ObjectRef", since: int, as_json: bool) -> int:
    import orjson

    async for row in messages_in(client, ref, since):
        if as_json:
            click.echo(orjson.dumps(row).decode())
            continue
        message = row["message"]
        who = row["agent"] if message["role"] == "assistant" and row["agent"] else message["role"]
        click.echo(f"{_time(row['time'])} {who}: {said_in(message)}")
    return 0


def said_in(message: Mapping[str, Any]) -> str:
    """A message in a few lines, for a terminal."""
    import orjson

    text = str(message.get("content") or "")
    if message["role"] == "tool":
        text = f"{message.get('name', '')} gave {orjson.dumps(message.get('result')).decode()}"
    calls = [f"{call['name']}({orjson.dumps(call['arguments']).decode()})" for call in message.get("toolCalls") or ()]
    if calls:
        text = " ".join((text, f"[calls {', '.join(calls)}]")).strip()
    # Control characters of what somebody said must not reach the terminal.
    lines = [one_line(line) for line in (text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…").splitlines()]
    return "\n    ".join(lines)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _search(client: "Client", where: "list[Object]", body: Mapping[str, Any], as_json: bool) -> int:
    import orjson

    found = 0
    for thread in where:
        async for row in client.connect(thread.ref, "search", dict(body)):
            found += 1
            if as_json:
                click.echo(orjson.dumps({"thread": thread.name, **row}).decode())
            else:
                click.echo(
                    f"thread/{thread.name} {row['seq']} {_time(row['time'])} {row['role']}: {one_line(row['excerpt'])}"
                )
    if not found:
        say("nothing found")
    return 0 if found else 1


async def _delete(client: "Client", names: tuple[str, ...], namespace: str, resource: str) -> int:
    from kastra.api.errors import NotFound
    from kastra.app.running import wait_until

    refs = [_ref(name, namespace) for name in names]
    if resource:
        refs = [thread.ref for thread in await _threads(client, namespace, resource)]
        if not refs:
            say("no threads found")
    for ref in refs:
        await client.delete(ref)
        try:
            await wait_until(client, ref, lambda thread: False)
        except NotFound:
            click.echo(f"thread/{ref.name} deleted")
    return 0
