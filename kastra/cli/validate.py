"""`kastra validate`: check manifests against the kinds of the store, or the built-in ones without a store. Sends nothing."""

import sys
from typing import TYPE_CHECKING, Any

import click

from .options import examples, filename_option, load_files
from .session import reading, say, settings_of, validator_for

if TYPE_CHECKING:
    from kastra.client.interface import Client


@click.command(
    epilog=examples(
        "kastra validate manifests",
        "kastra validate agent.yaml tool.yaml --strict-yaml",
    )
)
@click.argument("paths", nargs=-1, type=click.Path())
@filename_option
@click.option("--strict-yaml", "--strict", "strict_yaml", is_flag=True, help="YAML that surprises is an error.")
@click.option("-q", "--quiet", is_flag=True, help="Print problems only.")
def validate(paths: tuple[str, ...], filenames: tuple[str, ...], **options: Any) -> int:
    """Check manifests without applying them."""
    if not paths and not filenames:
        raise click.UsageError("say what to check: files, folders, globs or -")
    return reading(lambda client: _check(client, (*paths, *filenames), options), schemas=True)


async def _check(client: "Client", paths: tuple[str, ...], options: dict[str, Any]) -> int:
    from kastra.manifest.problem import render, summary

    loaded = load_files(paths, recursive=options["recursive"], strict_yaml=options["strict_yaml"])
    found = validator_for(client, settings_of()).check(loaded.manifests)
    problems = [*loaded.problems, *(problem for one in found for problem in one)]
    for problem in problems:
        say(render(problem, color=sys.stderr.isatty()))
    invalid = sum(1 for one in found if one)
    valid = len(loaded.manifests) - invalid
    if problems:
        say(summary(problems, 0))
    if not options["quiet"]:
        click.echo(f"{valid} {'object is' if valid == 1 else 'objects are'} valid")
    return 1 if any(problem.severity == "error" for problem in problems) else 0
