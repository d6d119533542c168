"""`kastra chat AGENT`: a conversation with an Agent, on a terminal or over pipes.

Each question is a Run of its own, so it is journaled, budgeted and permitted as any other, and survives this command; what was
said before goes with it, as messages or by the thread that it goes on with. An approval that it needs is asked for here, and decided as `kastra approve` does it.
Ctrl-C ends the answer that is being given, not the conversation. Read next: `kastra.app.streaming`.
"""

import sys
from typing import TYPE_CHECKING, Any

import click

from .completing import complete_objects
from .options import examples, namespace_option
from .resting import WAITS
from .session import owning, say

if TYPE_CHECKING:
    from .conversing import Talk

_HELP = """\
/tools    what the agent may call
/usage    tokens, calls and dollars so far
/history  what was said
/thread   which thread this goes on with; /thread NAME: go on with that one
/new      begin anew
/help     this
/quit     end (also Ctrl-D)
Ctrl-C ends an answer. Approvals are answered with y, n REASON, or e ARGUMENTS."""


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

    async def talk(operations: Any) -> int:
        from .conversing import Talk
        from .lines_in import LinesIn

        lines = LinesIn(sys.stdin.buffer)
        return await _converse(
            Talk(operations, name, namespace, context, lines, quiet=quiet, thread=thread, resource=resource)
        )

    return owning(talk, execute=True)


async def _converse(talk: "Talk") -> int:
    await talk.check()
    person = sys.stdin.isatty()
    if person:
        say(f"talking to agent/{talk.agent}; /help says what else there is")
    with talk.interruptible():
        while True:
            if person:
                click.echo("> ", nl=False)
            line = await talk.line()
            if line is None:
                if person:
                    click.echo("")
                break
            text = line.strip()
            if text == "/quit":
                break
            if not text:
                continue
            if text.startswith("/"):
                await _command(talk, text)
            elif not await talk.ask(line):
                break
    return WAITS if talk.waits else 1 if talk.failures and not person else 0


async def _command(talk: "Talk", text: str) -> None:
    if text == "/help":
        say(_HELP)
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
