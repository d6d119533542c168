"""`kastra run KIND/NAME`: create a Run, execute it here or let the server do so, show its progress, print its output.

Progress goes to standard error and the output to standard output, so that the latter can be piped. Interrupted, the Run stays
in the store and goes on where it was under `kastra watch`. Read next: `kastra.app.running`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .completing import complete_objects
from .options import examples, namespace_option
from .output import OutputFormat, to_json, write_value
from .session import owning, say, settings_of
from .session import target_of as target_of_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kastra.app.operations import Operations

    from .answer_view import AnswerView
    from .run_view import RunView

_NO_SERVER = (
    "--detach needs a server that goes on executing the Run after this command has ended, and none serves this store. "
    "Leave it out and the command executes the Run itself; or apply a Run object under 'kastra watch'."
)


@click.command(
    epilog=examples(
        'kastra run workflow/recipe-suggestion --input \'{"ingredients": ["eggs", "spinach"]}\'',
        "kastra run agent helper --input 'What is for dinner?'",
        "kastra run tool/recipe-finder --input @request.json -o json | jq .",
        "kastra run agent/helper --stream --input 'Tell me a story.'",
        "kastra run workflow/recipe-suggestion -f     its steps as a tree, drawn as they go on",
    )
)
@click.argument("target", nargs=-1, required=True, metavar="KIND/NAME | KIND NAME", shell_complete=complete_objects)
@namespace_option
@click.option(
    "--input", "given", default=None, metavar="JSON|@FILE|-", help="Input: JSON or text, a file, or standard input."
)
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Form of the output.")
@click.option("--name", default="", metavar="NAME", help="Of the Run (default: made from the target's).")
@click.option("--timeout", default=None, metavar="DURATION", help="The Run fails when it takes longer.")
@click.option(
    "--thread",
    default="",
    metavar="NAME",
    help="The conversation that an Agent or a Network goes on with; made if new.",
)
@click.option("--resource", default="", metavar="ID", help="Whom a new thread belongs to, such as a user.")
@click.option("--max-steps", type=click.IntRange(1, 1000), metavar="NUMBER", help="Turns that an Agent may take now.")
@click.option(
    "--tool-choice",
    default="",
    metavar="CHOICE",
    help="Of an Agent's first turn: auto, none, required, or a tool's name.",
)
@click.option("-f", "--follow", is_flag=True, help="Progress as a tree of steps, on a terminal; else as lines.")
@click.option("--stream", is_flag=True, help="The answer of an agent as it arrives, with the tools it calls.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--detach", "--async", "detach", is_flag=True, help="Don't wait for the end (needs a server).")
def run(target: tuple[str, ...], **options: Any) -> int:
    """Run a Workflow, Network, Agent or Tool and print its output."""
    if options["stream"] and (options["detach"] or options["follow"] or options["output"] != "text"):
        raise click.UsageError("--stream writes text as it arrives: without --detach, --follow and -o")
    if options["detach"] and target_of_flags() is None and not _served():
        raise ValueError(_NO_SERVER)
    spec: dict[str, Any] = {}
    if options["timeout"] is not None:
        from kastra.api.durations import parse_duration

        parse_duration(options["timeout"])
        spec["timeout"] = options["timeout"]
    if options["max_steps"] is not None:
        spec["maxSteps"] = options["max_steps"]
    if choice := options["tool_choice"]:
        spec["toolChoice"] = choice if choice in ("auto", "none", "required") else {"tool": choice}
    name = target_of(target)
    if options["thread"]:
        spec["threadRef"] = {"name": options["thread"]}
    elif options["resource"]:
        raise click.UsageError("--resource goes with --thread")
    value = read_input(options["given"])
    return owning(lambda kastra: execute_run(kastra, name, value, spec, options), execute=True)


def _served() -> bool:
    """Whether a server owns the project's store."""
    from kastra.app.clusters import serving_owner

    return serving_owner(settings_of().store) is not None


def target_of(arguments: tuple[str, ...]) -> str:
    """`KIND/NAME` from either form. Raises UsageError."""
    if len(arguments) == 1 and arguments[0].count("/") == 1 and all(arguments[0].split("/")):
        return arguments[0]
    if len(arguments) == 2 and not any("/" in argument for argument in arguments):
        return "/".join(arguments)
    raise click.UsageError("say what to run: KIND/NAME, such as workflow/recipe-suggestion")


def read_input(given: str | None, option: str = "--input") -> Any:
    """The value of an option: JSON where it is JSON, text otherwise; None without one.

    Args:
        given: a value, `@FILE`, or `-` for standard input.
        option: as it was written, for errors.

    Raises:
        ValueError: it begins like JSON and isn't, or the file can't be read.
    """
    if given is None:
        return None
    where, text = option, given
    if given == "-":
        where, text = "standard input", sys.stdin.read()
    elif given.startswith("@"):
        where = given[1:]
        text = Path(where).read_text(encoding="utf-8")
    from kastra.manifest.decode import DecodeError, decode

    if where.endswith((".yaml", ".yml")):
        try:
            documents = decode(text.encode())
        except DecodeError as error:
            raise ValueError(f"{where}:{error.line}:{error.column}: {error.message}") from error
        if len(documents) != 1:
            raise ValueError(f"{where}: exactly one document is needed, not {len(documents)}")
        return documents[0].value
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # Without brackets or quotes it is simply text, as one says something to an agent.
        if text.lstrip()[:1] in ("{", "[", '"') or where.endswith(".json"):
            raise ValueError(f"{where} is no JSON: {error}") from None
        return text.rstrip("\n")


async def execute_run(
    kastra: "Operations", target: str, value: Any, spec: dict[str, Any], options: dict[str, Any]
) -> int:
    """Create the Run, follow it to its end and print its output; the exit code."""
    from kastra.app.running import RunFailed, create_run, follow_run, has_ended

    from .not_begun import ReasonTold
    from .resting import rests, tell

    if options.get("resource"):
        from kastra.app.running import own_thread

        await own_thread(kastra.client, target, options["namespace"], options["thread"], options["resource"])
    created = await create_run(
        kastra.client, target, value, namespace=options["namespace"], name=options["name"], spec=spec
    )
    if options["detach"]:
        click.echo(f"run/{created.name} created")
        return 0
    if not options["quiet"]:
        say(f"run/{created.name} created")
    answer = _answer(options["quiet"]) if options.get("stream") else None
    try:
        # Nobody can reach a store that this process has: what waits for somebody would wait for ever.
        until = rests() if hasattr(kastra, "bus") else has_ended
        view = _view(created.name) if options["follow"] and not options["quiet"] else None
        if answer is not None:
            async with ReasonTold(kastra.client, created):
                result = await follow_run(kastra.client, created, _chunks(answer), until=until)
            answer.close()
        elif view is not None:
            async with view.drawing():
                result = await follow_run(kastra.client, created, view.event, until=until)
        else:
            async with ReasonTold(kastra.client, created):
                progress = None if options["quiet"] else _progress()
                result = await follow_run(kastra.client, created, progress, until=until)
    except BaseException:
        who = "'kastra watch'" if hasattr(kastra, "bus") else "the server"
        say(f"run/{created.name} has not ended; {who} goes on with it")
        raise
    if result.phase in ("Suspended", "Waiting"):
        return tell(await kastra.client.get(created.ref))
    if result.phase != "Succeeded":
        say(f"error: {RunFailed(result)}")
        detail = (result.error or {}).get("detail")
        if detail:
            say(f"  {detail}")
        say(f"kastra logs run/{result.name}{_namespace(options)} shows how it got there")
        return 1
    if answer is not None:
        answer.finish(output_text(result.output, "text"))
    else:
        click.echo(output_text(result.output, options["output"]), nl=False)
    return 0


def output_text(value: Any, form: str) -> str:
    """A Run's output as it is printed, ending in a newline; as `text` a string stands for itself."""
    if form == "text":
        return value.rstrip("\n") + "\n" if isinstance(value, str) else to_json(value)
    return write_value(OutputFormat(form), value)


def _namespace(options: dict[str, Any]) -> str:
    return "" if options["namespace"] == "default" else f" -n {options['namespace']}"


def _view(name: str) -> "RunView | None":
    from .run_view import view_on

    return view_on(sys.stderr, f"run/{name}")


def _answer(quiet: bool) -> "AnswerView":
    from .answer_view import AnswerView

    def write(text: str) -> None:
        click.echo(text, nl=False)
        sys.stdout.flush()

    return AnswerView(write, say, color=sys.stderr.isatty(), quiet=quiet)


def _chunks(view: "AnswerView") -> "Callable[[Mapping[str, Any]], None]":
    from kastra.app.streaming import Chunks

    chunks = Chunks()

    def show(event: "Mapping[str, Any]") -> None:
        for chunk in chunks.of(event):
            view.chunk(chunk)

    return show


def _progress() -> "Callable[[Mapping[str, Any]], None]":
    from kastra.engine.lines import EventLines

    lines = EventLines(color=sys.stderr.isatty())

    def show(event: "Mapping[str, Any]") -> None:
        line = lines.line(event)
        if line is not None:
            say(line)

    return show
