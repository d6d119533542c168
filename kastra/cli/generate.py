"""`kastra generate`: typed views from definitions. What belongs where is `kastra.scaffold.generation`'s to say."""

import click

from .options import examples
from .session import say, settings_of


@click.command(
    epilog=examples(
        "kastra generate",
        "kastra generate crds/glossaries.yaml",
        "kastra generate --check",
    )
)
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a view isn't what its definition says.")
def generate(files: tuple[str, ...], check: bool) -> int:
    """Make typed views from the definitions of the project's kinds.

    Each CustomResourceDefinition in crds/, or in FILES, becomes a module in controllers/views/, which controllers import:
    `from .views.glossary import Glossary`. Files that were not generated are never changed.

    --check also compares the views that are written by hand in controllers/ with the definitions, field by field.
    """
    from kastra.scaffold.generation import plan

    settings = settings_of()
    todo = plan(settings.project, settings.controllers, files)
    if not check:
        todo.apply()
        for path in todo.stale:
            click.echo(f"{path} {'created' if path in todo.missing else 'updated'}")
        for path in todo.orphans:
            click.echo(f"{path} removed: its definition is gone, or its view is written by hand")
        for kind, place in todo.by_hand.items():
            click.echo(f"{kind} has a view of its own in {place}; none is generated")
        if todo.is_done:
            count = len(todo.texts)
            click.echo(f"{count} {'view is' if count == 1 else 'views are'} up to date")
        return 0
    from kastra.runtime.discovery import DiscoveryError
    from kastra.scaffold.backcheck import findings

    problems = [
        f"{path}: {'is missing' if path in todo.missing else 'is not what the definition says'}; run kastra generate"
        for path in todo.stale
    ]
    problems += [
        f"{path}: its definition is gone, or its view is written by hand; kastra generate removes it"
        for path in todo.orphans
    ]
    try:
        problems += [str(finding) for finding in findings(settings.project, settings.controllers, files)]
    except DiscoveryError as error:
        # Controllers that import a view which isn't there yet don't load.
        problems.append(str(error))
    for problem in problems:
        say(problem)
    if problems:
        say(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
        return 1
    click.echo("the views agree with the definitions")
    return 0
