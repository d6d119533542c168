"""`kastra apply`: make files, folders or standard input the desired state.

Everything that can be checked is checked before anything is sent. The command then owns the store until what it applied has
settled, and says for each object whether it is Ready. Applying starts no paid work: Runs among the manifests are created
suspended unless `--run` is given.

Read next: `kastra.app.applying`, `kastra.cli.readiness`.
"""

import sys
from typing import TYPE_CHECKING, Any

import click

from .arguments import display_object
from .options import DURATION, dry_run_note, dry_run_option, examples, filename_option, load_files, namespace_option
from .output import parse_format
from .session import announced, owning, reading, say, settings_of, validator_for

if TYPE_CHECKING:
    from kastra.app.applying import ApplyOptions, ApplyReport
    from kastra.app.operations import Operations
    from kastra.client.interface import Client, Reader

_SETTLE = 60.0
"""Seconds that what was applied gets to settle unless `--timeout` says otherwise."""


@click.command(
    epilog=examples(
        "kastra apply -f manifests",
        "kastra apply -f manifests --prune --applyset shop     and delete what is no longer there",
        "kastra apply -f agent.yaml --dry-run=server           say what would happen",
        "kastra apply -f manifests --watch                     again on every change",
    )
)
@filename_option
@namespace_option
@dry_run_option
@click.option("--server-side", is_flag=True, help="Taken for kubectl's sake: apply is always server-side.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that another manager owns.")
@click.option(
    "--field-manager", default="kastra", metavar="NAME", help="Who owns the applied fields (default: kastra)."
)
@click.option("--keep-going", is_flag=True, help="Send the valid objects although others are invalid.")
@click.option("--run", "start_runs", is_flag=True, help="Start the Runs among the manifests and wait for their end.")
@click.option("--prune", is_flag=True, help="Delete members of the apply-set that are no longer declared.")
@click.option(
    "--applyset", default="", metavar="NAME", help="The apply-set that the objects belong to; goes with --prune."
)
@click.option("--watch", is_flag=True, help="Stay, and apply again whenever a file changes.")
@click.option("--wait", is_flag=True, help="Wait until every object is Ready; exit 1 if one isn't in time.")
@click.option("--timeout", type=DURATION, default=_SETTLE, help="How long to wait for objects (default: 60s).")
@click.option("--strict-yaml", is_flag=True, help="Refuse YAML that surprises (yes, 0755) instead of warning.")
@click.option(
    "-o", "--output", default="", metavar="FORMAT", help="name, json or yaml instead of results and readiness."
)
def apply(**options: Any) -> int:
    """Make files, folders or standard input the desired state."""
    if not options["filenames"]:
        raise click.UsageError("say what to apply: -f FILE, -f FOLDER or -f -")
    if options["prune"] != bool(options["applyset"]):
        raise click.UsageError("--prune and --applyset NAME go together")
    parse_format(options["output"], ("name", "json", "yaml"))
    if options["watch"]:
        from .apply_watch import check_watch

        check_watch(options)
        return owning(lambda kastra: _watch(kastra, options))
    if options["dry_run"] == "client" and not options["prune"]:
        return reading(lambda client: _compare(client, options), schemas=True)
    return owning(lambda kastra: apply_once(kastra, options), execute=options["start_runs"])


async def apply_once(kastra: "Operations", options: dict[str, Any]) -> int:
    """Apply, wait, report; the exit code."""
    from kastra.clock import SystemClock

    loaded = load_files(options["filenames"], recursive=options["recursive"], strict_yaml=options["strict_yaml"])
    with announced(f"applying {len(loaded.manifests)} objects"):
        report = await kastra.apply(loaded, prune=options["applyset"] or None, options=_options(options))
    print_problems(report)
    _print_results(kastra.client, report, options)
    if options["dry_run"] != "none" or not report.applied:
        return 0 if report.ok else 1
    with announced("waiting for the controllers"):
        settled = await kastra.settle(options["timeout"])
    ready = True
    if options["start_runs"] or options["wait"]:
        from .apply_wait import wait_for_all

        ready = await wait_for_all(kastra.client, report, options)
    if not options["output"]:
        from kastra.app.placing import placed
        from kastra.manifest.problem import render

        from .readiness import read_again, readiness_lines

        present = await read_again(kastra.client, [one.ref for one in report.applied if one.verb != "pruned"])
        for problem in placed(loaded, present, options["namespace"]):
            say(render(problem, color=sys.stderr.isatty()))
        lines = readiness_lines(present, SystemClock().now())
        if lines:
            click.echo("\n".join(["", *lines]))
    if not settled:
        say(f"error: the controllers were still at work after {options['timeout']:g}s; 'kastra watch' goes on with it")
    if not ready:
        say("error: not everything is ready")
    return 0 if report.ok and settled and ready else 1


async def _compare(client: "Client", options: dict[str, Any]) -> int:
    """`--dry-run=client`, for which the store need not be owned."""
    from kastra.app.applying import apply as apply_manifests

    loaded = load_files(options["filenames"], recursive=options["recursive"], strict_yaml=options["strict_yaml"])
    report = await apply_manifests(client, loaded, validator_for(client, settings_of()), _options(options))
    print_problems(report)
    _print_results(client, report, options)
    return 0 if report.ok else 1


async def _watch(kastra: "Operations", options: dict[str, Any]) -> int:
    from .apply_watch import reapply

    return await reapply(options, lambda: apply_once(kastra, options))


def _options(options: dict[str, Any]) -> "ApplyOptions":
    from kastra.app.applying import ApplyOptions

    return ApplyOptions(
        namespace=options["namespace"],
        dry_run=options["dry_run"],
        keep_going=options["keep_going"],
        force=options["force_conflicts"],
        run=options["start_runs"],
        field_manager=options["field_manager"],
    )


def print_problems(report: "ApplyReport") -> None:
    """Errors and warnings with their places, and their number, on standard error."""
    from kastra.manifest.problem import render, summary

    for problem in report.problems:
        say(render(problem, color=sys.stderr.isatty()))
    if report.problems:
        say(summary(report.problems, report.not_applied))


def _print_results(client: "Reader", report: "ApplyReport", options: dict[str, Any]) -> None:
    form = parse_format(options["output"], ("name", "json", "yaml"))
    if form.name in ("json", "yaml"):
        from .output import document_writer

        objects = [one.object for one in report.applied if one.object is not None]
        if objects:
            click.echo(document_writer(form)(objects, len(objects) == 1), nl=False)
        return
    note = dry_run_note(options["dry_run"])
    lines = [display_object(client.scheme, one.ref) for one in report.applied]
    if form.name != "name":
        lines = [f"{line} {one.verb}{note}" for line, one in zip(lines, report.applied, strict=True)]
    if lines:
        click.echo("\n".join(lines))
