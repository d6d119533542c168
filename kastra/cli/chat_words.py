"""What may stand where somebody types in a chat: its commands, the agent's tools, agents, and threads.

Looks at the store or server when the key for it is pressed, for names only; whatever fails completes nothing, as in a shell. Read
next: `kastra.cli.chat_input`.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from kastra.api.errors import StatusError

from .chat_input import Word

if TYPE_CHECKING:
    from .conversing import Talk

COMMANDS = {
    "/tools": "what the agent may call",
    "/usage": "tokens, calls and dollars so far",
    "/history": "what was said",
    "/thread": "which thread this goes on with; /thread NAME: go on with that one",
    "/agent": "whom this is with; /agent NAME: talk to that one, anew",
    "/new": "begin anew",
    "/help": "this",
    "/quit": "end (also Ctrl-D)",
}
"""What a line may be besides a question, and what it does."""

_PATIENCE = 2.0
"""Seconds for which names are looked for."""
_MOST = 500
"""Objects of a kind that are looked at."""
_LAST_WORD = re.compile(r"[A-Za-z0-9][\w.-]*\Z")


async def words(talk: "Talk", before: str) -> Sequence[Word]:
    """What may stand at the cursor.

    Args:
        before: what stands before it.
    """
    if before.startswith("/") and not re.search(r"\s", before):
        return [Word(name, len(before), about) for name, about in COMMANDS.items() if name.startswith(before)]
    command, blank, rest = before.partition(" ")
    named = {"/thread": talk.thread_names, "/agent": talk.agent_names}
    found: list[Word] = []
    # Nobody waits for a name, and a message in the middle of a line helps nobody.
    with anyio.move_on_after(_PATIENCE):
        try:
            if blank and command in named:
                prefix = rest.lstrip()
                names = dict.fromkeys(await named[command](_MOST), command[1:])
            elif (match := _LAST_WORD.search(before)) and not before.startswith("/"):
                prefix = match.group()
                names = dict.fromkeys(await talk.agent_names(_MOST), "agent")
                names.update(dict.fromkeys(await talk.tool_names(), "tool"))
            else:
                return []
            found = [Word(name, len(prefix), kind) for name, kind in sorted(names.items()) if name.startswith(prefix)]
        except (StatusError, OSError):
            return []
    return found
