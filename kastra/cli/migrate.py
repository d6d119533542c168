"""`kastra migrate`: configuration of older dialects to manifests of today's form, and a report of what could not be converted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import examples
from .session import reading, say, settings_of, validator_for

if TYPE_CHECKING:
    from kastra.client.interface import Client
    from kastra.migrate.convert import Migration


@click.command(
    epilog=examples(
        "kastra migrate mastra.yaml -o manifests",
        "kastra migrate .mastrapod -o manifests --report report.json",
        "cat agent.json | kastra migrate -",
        "kastra migrate --from serverless-workflow order.yaml -o manifests",
    )
)
@click.argument("old", nargs=-1, type=click.Path())
@click.option(
    "--from",
    "dialect",
    type=click.Choice(["serverless-workflow"]),
    help="Take documents of this language only (default: told from each document).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the manifests, one file per object (default: print them).",
)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@click.option(
    "--secrets",
    type=click.Choice(["placeholder", "write"]),
    default="placeholder",
    help="What Secrets hold: a placeholder, or the keys that were found.",
)
@click.option("--report", type=click.Path(), metavar="FILE", help="Write the report as JSON; - for standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Leave out notes about what was converted.")
def migrate(old: tuple[str, ...], **options: Any) -> int:
    """Convert configuration of older dialects to manifests.

    Reads root configurations, MastraPods, plain documents, dumps, stored workflows and serverless workflows, as YAML or
    JSON. Exits with 1 if something could not be converted; the report says where, why, and what to do.
    """
    if not old:
        raise click.UsageError("say what to convert: files, folders, globs or -")
    if options["secrets"] == "write" and options["output"] is None:
        raise click.UsageError(
            "--secrets=write needs -o: keys are written to files that only you can read, not printed"
        )
    return reading(lambda client: _migrate(client, old, options), schemas=True)


async def _migrate(client: "Client", old: tuple[str, ...], options: dict[str, Any]) -> int:
    from kastra.manifest.encode import to_yaml_documents
    from kastra.migrate.convert import migrate as convert
    from kastra.migrate.sources import Unreadable
    from kastra.migrate.write import files_of, write

    validator = validator_for(client, settings_of())
    try:
        found = convert(
            old,
            fields=_fields(client),
            check=validator.check,
            write_secrets=options["secrets"] == "write",
            dialect=options["dialect"] or "",
        )
    except Unreadable as error:
        say(f"error: {error}")
        return 2
    folder: Path | None = options["output"]
    to_stdout = options["report"] == "-"
    if folder is not None:
        for path in write(files_of(found.objects), folder, force=options["force"]):
            click.echo(f"wrote {path}", err=to_stdout)
    elif not to_stdout:
        click.echo(to_yaml_documents(draft.to_object() for draft in found.objects), nl=False)
    if options["report"]:
        _write_report(found, options["report"])
    for finding in found.report.ordered():
        if finding.level != "note" or not options["quiet"]:
            say(_printable(str(finding)))
    say(_summary(found))
    return 0 if found.report.complete else 1


def _fields(client: "Client") -> dict[str, frozenset[str]]:
    """The fields of the specs of our kinds."""
    found = {}
    for resource in client.scheme:
        properties = ((resource.schema or {}).get("properties") or {}).get("spec") or {}
        if resource.group == "mastra.ai":
            found[resource.kind] = frozenset(properties.get("properties") or ())
    return found


def _write_report(found: "Migration", target: str) -> None:
    from .output import to_json

    text = to_json(
        {
            "complete": found.report.complete,
            "files": found.files,
            "objects": [
                {"kind": d.kind, "name": d.name, "namespace": d.namespace, "migrated": not d.reasons}
                for d in found.objects
            ],
            "unchanged": found.unchanged,
            "findings": found.report.to_json(),
        }
    )
    if target == "-":
        click.echo(text, nl=False)
    else:
        Path(target).write_text(text, encoding="utf-8")


def _printable(text: str) -> str:
    """Nothing of a file reaches the terminal as a command."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _summary(found: "Migration") -> str:
    stubs = sum(bool(draft.reasons) for draft in found.objects)
    parts = [_count(len(found.objects), "object") + " converted"]
    if stubs:
        parts.append(f"{_count(stubs, 'stub')} among them")
    dropped = sum(finding.level == "dropped" for finding in found.report.findings)
    if dropped:
        parts.append(f"{_count(dropped, 'field')} dropped")
    if found.unchanged:
        parts.append(
            f"{_count(len(found.unchanged), 'object')} of today's form already, left as {'it is' if len(found.unchanged) == 1 else 'they are'}"
        )
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
