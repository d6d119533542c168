"""`kastra record KIND/NAME`: run something as `kastra run` does, and write what its models say to cassettes.

Afterwards `cassettes = "replay"` in kastra.toml (or KASTRA_CASSETTES=replay, or `cassette.mode` of a Model) answers from them,
with no network and no key: in CI, in tests, on a plane. The command executes the Run itself, so that no server may own the
store meanwhile. Read next: `kastra.model.cassette`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .completing import complete_objects
from .options import examples, namespace_option
from .run import execute_run, read_input
from .run import target_of as target_in
from .session import owning, say, settings_of
from .session import target_of as target_of_flags

if TYPE_CHECKING:
    from kastra.app.operations import Operations


@click.command(
    epilog=examples(
        "kastra record agent/helper --input 'What is for dinner?'",
        "KASTRA_CASSETTES=replay kastra run agent/helper --input 'What is for dinner?'",
        "kastra record workflow/dinner --missing      ask only for what is not on a cassette yet",
    )
)
@click.argument("target", nargs=-1, required=True, metavar="KIND/NAME | KIND NAME", shell_complete=complete_objects)
@namespace_option
@click.option(
    "--input", "given", default=None, metavar="JSON|@FILE|-", help="Input: JSON or text, a file, or standard input."
)
@click.option("--missing", is_flag=True, help="Replay what is on a cassette, and record only what isn't.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Form of the output.")
@click.option("--name", default="", metavar="NAME", help="Of the Run (default: made from the target's).")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def record(target: tuple[str, ...], given: str | None, missing: bool, **options: Any) -> int:
    """Run something and keep what its models say."""
    from kastra.app.clusters import serving_owner

    if target_of_flags() is not None or serving_owner(settings_of().store) is not None:
        raise ValueError(
            "a server executes Runs here, so this command can't record them: stop it, or start it with "
            "KASTRA_CASSETTES=record and use 'kastra run'"
        )
    # The same as the setting, for this process.
    click.get_current_context().find_root().params["cassettes"] = "auto" if missing else "record"
    project = settings_of().project
    name, value = target_in(target), read_input(given)

    async def body(kastra: "Operations") -> int:
        code = await execute_run(kastra, name, value, {}, {**options, "detach": False, "follow": False})
        kept: dict[Path, int] = dict(getattr(kastra, "recorded", {}))
        for path, count in sorted(kept.items()):
            say(f"{count} answer{'s' if count != 1 else ''} recorded in {path.relative_to(project)}")
        if not kept:
            say("no model was asked: nothing recorded")
        return code

    return owning(body, execute=True)
