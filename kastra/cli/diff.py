"""`kastra diff`: what `apply` would change, as a unified diff of YAML.

The server says what the result would be (a dry run with all of its checks), so defaults and other managers' fields don't
show as differences. Exit codes: 0 no difference, 1 differences, 2 errors. Values of Secrets are masked.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .failure import report
from .options import examples, filename_option, load_files, namespace_option
from .output import presented
from .session import reading, say, settings_of, validator_for

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.client.interface import Client

_RED, _GREEN, _CYAN, _END = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_FAILED = 2


@click.command(
    epilog=examples(
        "kastra diff -f manifests",
    )
)
@filename_option
@namespace_option
@click.option("--server-side", is_flag=True, help="Taken for kubectl's sake: apply is always server-side.")
@click.option("--force-conflicts", is_flag=True, help="Compare as if conflicting fields were taken over.")
@click.option("--field-manager", default="kastra", metavar="NAME", help="Who would own the fields (default: kastra).")
@click.option("--show-managed-fields", is_flag=True, help="Compare metadata.managedFields as well.")
@click.option("--strict-yaml", is_flag=True, help="Refuse YAML that surprises (yes, 0755) instead of warning.")
def diff(**options: Any) -> int:
    """Show what apply would change."""
    if not options["filenames"]:
        raise click.UsageError("say what to compare: -f FILE, -f FOLDER or -f -")
    try:
        return reading(lambda client: _diff(client, options), schemas=True)
    except Exception as error:  # noqa: BLE001 - 1 means differences here, so every failure must become another code
        report(error)
        return _FAILED


async def _diff(client: "Client", options: dict[str, Any]) -> int:
    from kastra.app.applying import ApplyOptions, apply
    from kastra.manifest.problem import render, summary

    loaded = load_files(options["filenames"], recursive=options["recursive"], strict_yaml=options["strict_yaml"])
    dry_run = ApplyOptions(
        namespace=options["namespace"],
        dry_run="server",
        force=options["force_conflicts"],
        field_manager=options["field_manager"],
    )
    outcome = await apply(client, loaded, validator_for(client, settings_of()), dry_run)
    for problem in outcome.problems:
        say(render(problem, color=sys.stderr.isatty()))
    if outcome.problems:
        say(summary(outcome.problems, outcome.not_applied))
    differs = False
    for one in outcome.applied:
        live = await _live(client, one.ref)
        after = one.object.data if one.object is not None else _declared(loaded.manifests, one.ref)
        lines = list(difference(one.ref, live, after, managed_fields=options["show_managed_fields"]))
        differs = differs or bool(lines)
        for line in lines:
            click.echo(_colored(line) if sys.stdout.isatty() else line)
    if not outcome.ok:
        return _FAILED
    return 1 if differs else 0


async def _live(client: "Client", ref: "ObjectRef") -> Mapping[str, Any]:
    from kastra.api.errors import NotFound

    try:
        return (await client.get(ref)).data
    except NotFound:
        return {}


def _declared(manifests: Iterable[Any], ref: "ObjectRef") -> Mapping[str, Any]:
    """What the file says, for an object whose namespace doesn't exist yet, so that no server can tell the result."""
    for manifest in manifests:
        if (manifest.ref.kind, manifest.ref.name) == (ref.kind, ref.name):
            found: Mapping[str, Any] = manifest.object
            return found
    return {}


def difference(
    ref: "ObjectRef", live: Mapping[str, Any], after: Mapping[str, Any], *, managed_fields: bool = False
) -> Iterable[str]:
    """Lines of a unified diff between two states of an object; none when they are equal. Either may be empty."""
    import difflib

    live, after = _masked(live, after)
    name = "/".join(filter(None, (ref.kind.lower(), ref.namespace, ref.name)))
    yield from difflib.unified_diff(
        _lines(live, managed_fields), _lines(after, managed_fields), f"live/{name}", f"applied/{name}", lineterm=""
    )


def _lines(data: Mapping[str, Any], managed_fields: bool) -> list[str]:
    if not data:
        return []
    from kastra.manifest.encode import to_yaml

    shown = presented(data, managed_fields=managed_fields)
    # Set by the server at each write; a dry run makes them up.
    volatile = ("resourceVersion", "uid", "creationTimestamp", "generation")
    shown["metadata"] = {key: value for key, value in shown["metadata"].items() if key not in volatile}
    return to_yaml({key: value for key, value in shown.items() if key != "status"}).splitlines()


def _masked(live: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both states without values, if it is a Secret; values that differ stay different."""
    if "Secret" not in (live.get("kind"), after.get("kind")):
        return live, after
    masked: list[dict[str, Any]] = []
    for data, other, suffix in ((live, after, "(before)"), (after, live, "(after)")):
        copy = dict(data)
        for field in ("data", "stringData"):
            if isinstance(copy.get(field), Mapping):
                others = other.get(field) or {}
                copy[field] = {
                    key: "***" if others.get(key, value) == value else f"*** {suffix}"
                    for key, value in copy[field].items()
                }
        metadata = dict(copy.get("metadata") or {})
        if _LAST_APPLIED in (metadata.get("annotations") or {}):
            metadata["annotations"] = {**metadata["annotations"], _LAST_APPLIED: "***"}
        masked.append({**copy, "metadata": metadata} if copy else {})
    return masked[0], masked[1]


def _colored(line: str) -> str:
    color = {"-": _RED, "+": _GREEN, "@": _CYAN}.get(line[:1], "")
    return f"{color}{line}{_END}" if color else line
