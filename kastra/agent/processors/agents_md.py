"""Which instructions lie beside the files that an agent works with? An AGENTS.md is shown to it when it comes to its folder.

With `agents-md-injector`, after a turn that called tools: the paths among the arguments of completed calls are looked at, newest
first. The nearest AGENTS.md (or CLAUDE.md, CONTEXT.md) in the folder of such a path, or above it up to the project's, becomes a
message of the user, once in a conversation, one in a turn. What was shown is journaled and kept in the thread.

Paths count from where their tool begins to count: the folder of a built-in tool, or `folder`. Nothing outside the project is read.
Source: AGENTS.md, and the processor of that name in Mastra. Read next: `kastra.agent.loop`.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape, unescape
from pathlib import Path
from typing import Any

import anyio.to_thread

from kastra.engine.step import Effect, StepContext
from kastra.model.interface import Message
from kastra.tool.interface import ToolError
from kastra.tool.toolkit.jail import Jail, parts_of

from .settings import Wrong, text, whole

NAMES = ("AGENTS.md", "CLAUDE.md", "CONTEXT.md")
FIELDS = ("path", "file", "filePath", "target", "targetPath", "dest", "destination")
"""Arguments of tools that are paths."""
_CALLS = 50
"""Calls that are looked at."""
_MAX_FILE = 1 << 20
_MARK = re.compile(r'<system-reminder type="dynamic-agents-md" path="([^"]*)">\n')


@dataclass(frozen=True, slots=True)
class Injecting:
    """An `agents-md-injector`, as declared.

    Args:
        tokens: of a file that are shown, by estimate.
        text: instead of a file that is empty or can't be read; empty for nothing.
        folder: where paths count from, in the project, for tools of which that isn't known.
    """

    tokens: int
    text: str
    folder: str


def injecting(config: Mapping[str, Any]) -> Injecting:
    """From its settings. Raises Wrong."""
    folder = text(config, "folder", ".")
    try:
        parts_of(folder)
    except ToolError as error:
        raise Wrong(".folder", error.message) from None
    return Injecting(whole(config, "maxTokens", 1000), text(config, "reminderText").strip(), folder)


@dataclass(frozen=True, slots=True)
class Injector:
    """An `agents-md-injector`, ready to look.

    Args:
        spec: as declared.
        project: the folder of the project.
        private: folders that are never entered.
        folders: where paths of tools count from, by name of the tool; None for those whose paths are none of the project.
    """

    spec: Injecting
    project: Path
    private: Sequence[Path]
    folders: Mapping[str, str | None]

    async def reminders(self, step: StepContext, messages: Sequence[Message]) -> list[Message]:
        """What is to be shown before the next turn: one message, or none."""
        if not messages or messages[-1]["role"] != "tool":
            return []
        paths = list(dict.fromkeys(self._paths(messages)))
        if not paths:
            return []
        shown = {
            unescape(mark[1])
            for message in messages
            if message["role"] == "user" and (mark := _MARK.match(message.get("content", "")))
        }

        async def look(_effect: Effect) -> dict[str, str]:
            return await anyio.to_thread.run_sync(partial(self._look, paths, shown))

        found: Mapping[str, str] = await step.call("agents-md", look)
        if not found:
            return []
        opening = f'<system-reminder type="dynamic-agents-md" path="{escape(found["path"])}">'
        return [{"role": "user", "content": f"{opening}\n{found['text']}\n</system-reminder>"}]

    def _paths(self, messages: Sequence[Message]) -> Iterator[str]:
        """Paths of the project that tools were called with, newest first."""
        done = {message.get("toolCallId") for message in messages if message["role"] == "tool"}
        calls = [call for message in messages for call in message.get("toolCalls", ()) if call["id"] in done]
        root = f"{self.project}/"
        for call in reversed(calls[-_CALLS:]):
            folder = self.folders.get(call["name"], self.spec.folder)
            if folder is None:
                continue
            for field in FIELDS:
                given = call["arguments"].get(field)
                if not isinstance(given, str) or not given.strip():
                    continue
                if given.startswith("/"):
                    if given.startswith(root):
                        yield given[len(root) :]
                    continue
                yield f"{folder}/{given}"

    def _look(self, paths: Sequence[str], shown: set[str]) -> dict[str, str]:
        jail = Jail(self.project, ".", self.private, _MAX_FILE)
        looked: set[str] = set()
        for path in paths:
            try:
                found = _nearest(jail, parts_of(path))
            except ToolError:
                # It leads out of the project, or can't be a path.
                continue
            if not found or found in shown or found in looked:
                continue
            looked.add(found)
            if said := self._said(jail, found):
                return {"path": found, "text": said}
        return {}

    def _said(self, jail: Jail, path: str) -> str:
        try:
            with jail.opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
                said = file.read(_MAX_FILE).decode("utf-8-sig", "replace").strip()
        except (ToolError, OSError):
            said = ""
        return _cut(said, self.spec.tokens) if said else self.spec.text


def _nearest(jail: Jail, parts: list[str]) -> str:
    """The file with instructions for a path; empty if there is none."""
    if parts and parts[-1] in NAMES and _kind(jail, parts) == stat.S_IFREG:
        return "/".join(parts)
    folder = parts if _kind(jail, parts) == stat.S_IFDIR else parts[:-1]
    while True:
        for name in NAMES:
            if _kind(jail, [*folder, name]) == stat.S_IFREG:
                return "/".join([*folder, name])
        if not folder:
            return ""
        folder = folder[:-1]


def _kind(jail: Jail, parts: Sequence[str]) -> int:
    """What is there; 0 for nothing that may be looked at."""
    try:
        return stat.S_IFMT(jail.stat("/".join(parts)).st_mode)
    except ToolError:
        return 0


def _cut(said: str, tokens: int) -> str:
    """The beginning of a text that has more tokens, by estimate."""
    if len(said) <= tokens * 4:
        return said
    end = said.rfind("\n", 0, tokens * 4)
    kept = said[: end if end > 0 else tokens * 4].rstrip()
    return f"{kept}\n\n[cut: the first {len(kept) // 4:,} of about {len(said) // 4:,} tokens]"
