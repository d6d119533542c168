"""What may come next? Completion of kinds and names from the store, for shells.

Runs while somebody types, so it only looks, and whatever fails completes nothing. Read next: `kastra.cli.completion`.
"""

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from kastra.api.meta import DEFAULT_NAMESPACE

from .session import reading


def complete_objects(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds first, then names of the kind; `KIND/NAME` where a slash was typed."""
    before: Sequence[str] = context.params.get(parameter.name or "") or ()
    namespace = context.params.get("namespace") or DEFAULT_NAMESPACE
    kind, slash, prefix = incomplete.partition("/")
    try:
        with context.scope(cleanup=False):
            if slash:
                return [CompletionItem(f"{kind}/{name}") for name in _names(kind, namespace, prefix)]
            if before:
                return [CompletionItem(name) for name in _names(before[0], namespace, incomplete) if name not in before]
            return [CompletionItem(name) for name in _kinds(incomplete)]
    except Exception:  # noqa: BLE001 - a message in the middle of a command line being typed helps nobody
        return []


def _kinds(prefix: str) -> list[str]:
    from kastra.client.interface import Client

    async def kinds(client: Client) -> list[str]:
        return sorted({resource.plural for resource in client.scheme if resource.plural.startswith(prefix)})

    return reading(kinds)


def _names(kind: str, namespace: str, prefix: str) -> list[str]:
    from kastra.client.interface import Client

    async def names(client: Client) -> list[str]:
        page = await client.list(kind, namespace)
        return [obj.name for obj in page.items if obj.name.startswith(prefix)]

    return reading(names)
