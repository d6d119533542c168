"""`kastra chat AGENT`: a conversation with an Agent, on a terminal or over pipes.

Each question is a Run of its own, so it is journaled, budgeted and permitted as any other, and survives this command; what was
said before goes with it, as messages or by the thread that it goes on with. An approval that it needs is asked for here, and decided as `kastra approve` does it.
Ctrl-C ends the answer that is being given, not the conversation. Read next: `kastra.app.streaming`.
"""

from typing import TYPE_CHECKING, Any

import click

from .completing import complete_objects
from .layout import one_line
from .options import examples, namespace_option
from .resting import WAITS
from .session import owning, say, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .chat_input import Word
    from .conversing import Talk

_KEYS = """\
Ctrl-C ends an answer. Approvals are answered with y, n REASON, or e ARGUMENTS."""
_EDITING = """\
Alt-Enter, or \\ at the end of a line, goes on in the next. Up and Down bring back what was asked, Ctrl-R searches it, Tab completes."""


@click.command(
    epilog=examples(
        "kastra chat agent/helper",
        "kastra chat agent/helper --thread holiday --resource ann",
        "echo 'What is for dinner?' | kastra chat helper --quiet",
        'kastra chat helper --request-context \'{"user": "Ann"}\'',
    )
)
@click.argument("agent", metavar="AGENT", shell_complete=complete_objects)
@namespace_option
@click.option(
    "--request-context", "given", metavar="JSON|@FILE", help="What instructions see as `context`, for every question."
)
@click.option("--thread", default="", metavar="NAME", help="The conversation to go on with; made if new.")
@click.option("--resource", default="", metavar="ID", help="Whom the thread belongs to, such as a user.")
@click.option("-q", "--quiet", is_flag=True, help="Answers only, nothing about tools.")
def chat(agent: str, namespace: str, given: str | None, thread: str, resource: str, quiet: bool) -> int:
    """Talk to an Agent."""
    from .run import read_input

    kind, _, name = agent.rpartition("/")
    if kind not in ("", "agent", "agents", "ag") or not name:
        raise click.UsageError(f"{agent}: say which agent, such as agent/{name or 'helper'}")
    context = read_input(given, "--request-context")
    if context is not None and not isinstance(context, dict):
        raise ValueError("--request-context: an object of named values is needed")

    keep = settings_of().chat_history

    async def converse(operations: Any) -> int:
        from .chat_input import chat_input
        from .chat_words import words
        from .conversing import Talk

        async def completions(before: str) -> "Sequence[Word]":
            return await words(talk, before)

        source, problem = chat_input(keep, completions)
        if problem:
            say(problem)
        talk = Talk(operations, name, namespace, context, source, quiet=quiet, thread=thread, resource=resource)
        return await _converse(talk, source.person)

    return owning(converse, execute=True)


async def _converse(talk: "Talk", person: bool) -> int:
    await talk.check()
    if person:
        say(f"talking to agent/{talk.agent}; /help says what else there is")
    with talk.interruptible():
        while (line := await talk.question()) is not None:
            text = line.strip()
            if text == "/quit":
                break
            if text.startswith("/") and "\n" not in text:
                await _command(talk, text, person)
            elif text and not await talk.ask(line):
                break
    return WAITS if talk.waits else 1 if talk.failures and not person else 0


async def _command(talk: "Talk", text: str, person: bool) -> None:
    from kastra.api.errors import StatusError

    try:
        await _obey(talk, text, person)
    except (StatusError, ConnectionError) as error:
        say(f"error: {one_line(str(error))}")


async def _obey(talk: "Talk", text: str, person: bool) -> None:
    if text == "/help":
        from .chat_words import COMMANDS

        say("\n".join(f"{name:<9} {about}" for name, about in COMMANDS.items()))
        say(f"{_KEYS}\n{_EDITING}" if person else _KEYS)
    elif text == "/tools":
        for line in await talk.tools():
            say(line)
    elif text == "/usage":
        say(talk.usage())
    elif text == "/new":
        talk.forget()
        say("a new conversation begins")
    elif text == "/history":
        for line in await talk.history():
            say(line)
    elif text.split()[0] == "/agent":
        named = text.removeprefix("/agent").strip().removeprefix("agent/")
        if named:
            try:
                await talk.take(named)
            except ValueError as error:
                say(str(error))
                return
        say(f"agent/{talk.agent}")
    elif text.split()[0] == "/thread":
        if named := text.removeprefix("/thread").strip():
            try:
                talk.thread.take(named)
            except ValueError as error:
                say(str(error))
                return
        say(await talk.thread.about())
    else:
        say(f"{text.split()[0][:40]}: no such command; /help lists them")
