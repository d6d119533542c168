r"""Lines that a person edits on a terminal: with what was typed before, a search in it, several lines, and completion.

    Enter           ask                                     Up, Down   what was typed before
    Alt-Enter       a further line, as `\` at the end is    Ctrl-R     search in it
    Tab             complete                                Ctrl-C     forget what is being typed
    Ctrl-X Ctrl-E   write it in $EDITOR                     Ctrl-D     end, where nothing is typed

What is pasted is one entry, however many lines it has. The keys are those of Emacs and of readline. The one module that imports
prompt_toolkit, and imported for a person at a terminal only. Read next: `kastra.cli.line_history`.
"""

import os
from collections.abc import AsyncGenerator, Iterable
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.input import create_input
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.vt100 import Vt100_Output

from .chat_input import Completions, Interrupted
from .layout import one_line
from .line_history import LineHistory
from .session import say

_PROMPT, _FURTHER = "> ", "  "


class LineEditor:
    """Asks a person, as `kastra.cli.chat_input.ChatInput`.

    Args:
        screen: the terminal that is written to.
        history: what was typed in earlier chats; None where nothing is kept.
        completions: what may stand at the cursor.
    """

    person = True

    def __init__(self, screen: TextIO, history: LineHistory | None, completions: Completions) -> None:
        self._input = create_input()
        # Where the cursor is isn't asked: terminals that don't know would answer nothing, and slow ones too late.
        output = Vt100_Output(screen, lambda: _size(screen), os.environ.get("TERM"), enable_cpr=False)
        self._questions: PromptSession[str] = PromptSession(
            _PROMPT,
            multiline=True,
            prompt_continuation=_FURTHER,
            history=InMemoryHistory() if history is None else _Kept(history),
            completer=_Words(completions),
            complete_while_typing=False,
            enable_open_in_editor=True,
            enable_suspend=True,
            key_bindings=_keys(),
            interrupt_exception=KeyboardInterrupt,
            input=self._input,
            output=output,
        )
        self._answers: PromptSession[str] = PromptSession(enable_suspend=True, input=self._input, output=output)

    async def question(self) -> str | None:
        """The next entry; None after Ctrl-D. Raises Interrupted."""
        return await self._ask(self._questions, _PROMPT, "")

    async def answer(self, prompt: str, given: str = "") -> str | None:
        """The answer to a prompt, with `given` to begin with. What was typed before the prompt was seen is no answer to it."""
        import termios

        clear_typeahead(self._input)
        termios.tcflush(self._input.fileno(), termios.TCIFLUSH)
        return await self._ask(self._answers, prompt, given)

    def interrupt(self) -> bool:
        """End what is being typed with Interrupted, if something is."""
        for session in (self._questions, self._answers):
            if session.app.is_running and not session.app.is_done:
                session.app.exit(exception=KeyboardInterrupt(), style="class:aborting")
                return True
        return False

    async def _ask(self, session: "PromptSession[str]", prompt: str, given: str) -> str | None:
        try:
            # The signal is the chat's: it ends an answer as well, when nothing is being typed.
            return await session.prompt_async(prompt, default=given, handle_sigint=False, set_exception_handler=False)
        except EOFError:
            return None
        except KeyboardInterrupt:
            raise Interrupted(bool(session.default_buffer.text)) from None


class _Kept(History):
    """Lines of earlier chats, for the editor."""

    def __init__(self, lines: LineHistory) -> None:
        super().__init__()
        self._lines = lines
        self._told = False

    def load_history_strings(self) -> Iterable[str]:
        return reversed(self._lines.entries())

    def store_string(self, string: str) -> None:
        try:
            self._lines.add(string)
        except OSError as error:
            if not self._told:
                self._told = True
                say(f"lines aren't kept: {error}")


class _Words(Completer):
    """Completion from a coroutine."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        return ()  # The editor asks for the asynchronous form, below.

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        for word in await self._completions(document.text_before_cursor):
            yield Completion(word.text, start_position=-word.begins, display_meta=one_line(word.about))


def _keys() -> KeyBindings:
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)

    # A line that was typed while an answer was being written ends with a line feed: the terminal has made it of Enter.
    @keys.add("enter", filter=typing)
    @keys.add("c-j", filter=typing)
    def _enter(event: KeyPressEvent) -> None:
        typed = event.current_buffer
        if typed.complete_state is not None and typed.complete_state.current_completion is not None:
            typed.complete_state = None  # What was chosen stands there; it isn't asked yet.
        elif typed.document.current_line_before_cursor.endswith("\\") and typed.document.is_cursor_at_the_end_of_line:
            typed.delete_before_cursor()
            typed.newline(copy_margin=False)
        else:
            typed.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    @keys.add("escape", "c-j", filter=typing)
    def _further(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


def _size(screen: TextIO) -> Size:
    try:
        columns, rows = os.get_terminal_size(screen.fileno())
    except OSError:
        columns, rows = 0, 0  # It is no terminal any more.
    return Size(rows=rows or 24, columns=columns or 80)
