"""How does a chat read what is said to it? From a person who edits lines, from a plain terminal, or from a pipe.

A question is asked for with `> ` on a terminal, and an answer (to an approval) with a prompt of its own. In a pipe a line is an
entry. Read next: `kastra.cli.line_editor`, for people.
"""

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import click

from .lines_in import LinesIn


class Interrupted(Exception):
    """Ctrl-C while something was being typed; `typed` says whether there was anything."""

    def __init__(self, typed: bool) -> None:
        super().__init__("interrupted")
        self.typed = typed


class Word(NamedTuple):
    """Something that completes what is being typed.

    Args:
        text: the word.
        begins: how many characters before the cursor it replaces.
        about: what it is, in a few words.
    """

    text: str
    begins: int
    about: str = ""


Completions = Callable[[str], Awaitable[Sequence[Word]]]
"""What may stand at the cursor, from the text before it."""


class ChatInput(Protocol):
    """Where questions and decisions come from."""

    person: bool
    """Whether somebody sits at a terminal."""

    async def question(self) -> str | None:
        """What is asked next; None at the end. Raises Interrupted."""
        ...

    async def answer(self, prompt: str, given: str = "") -> str | None:
        """What is answered to a prompt; None if nobody answers any more.

        Args:
            given: what may be changed, where that is possible, instead of being typed anew.

        Raises:
            Interrupted: Ctrl-C.
        """
        ...

    def interrupt(self) -> bool:
        """Ctrl-C as a signal: whether something was being typed, which then ends with Interrupted."""
        ...


class PlainInput:
    r"""Lines as they come. A person ends one with `\` to go on in the next.

    Args:
        lines: standard input.
        person: whether it is a terminal.
    """

    def __init__(self, lines: LinesIn, *, person: bool) -> None:
        self.person = person
        self._lines = lines

    async def question(self) -> str | None:
        """The next line."""
        if not self.person:
            return await self._lines.next()
        said = []
        click.echo("> ", nl=False)
        while (line := await self._lines.next()) is not None:
            said.append(line)
            if not line.endswith("\\"):
                return "\n".join([*(part[:-1] for part in said[:-1]), line])
            click.echo("  ", nl=False)
        click.echo("")
        return "\n".join(part[:-1] for part in said) if said else None

    async def answer(self, prompt: str, given: str = "") -> str | None:
        """The next line, after the prompt."""
        click.echo(prompt, nl=False, err=True)
        line = None
        try:
            line = await self._lines.next()
        finally:
            if line is None:
                click.echo("", err=True)
        return line

    def interrupt(self) -> bool:
        """Nothing that could be ended: the terminal itself forgets the line."""
        return False


def chat_input(keep: int, completions: Completions) -> tuple[ChatInput, str]:
    """What fits standard input, and what is to be said about it.

    Args:
        keep: lines kept from chat to chat; 0 for none.
    """
    person = sys.stdin.isatty()
    shown_on = next((stream for stream in (sys.stdout, sys.stderr) if stream.isatty()), None)
    if not person or shown_on is None or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return PlainInput(LinesIn(sys.stdin.buffer), person=person), ""
    from .line_editor import LineEditor
    from .line_history import LineHistory, history_file

    history, problem = None, ""
    if keep:
        try:
            history = LineHistory(history_file(), keep)
            history.entries()
        except (OSError, RuntimeError) as error:
            history, problem = None, f"lines aren't kept: {error}"
    return LineEditor(shown_on, history, completions), problem
