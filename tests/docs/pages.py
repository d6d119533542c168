"""Runs the code blocks of a page of documentation, so that the page can't be wrong.

What happens to a block is said by its info string:

    yaml                a complete manifest (or several): applied to a store in memory, which must accept it
    yaml file=NAME      a file of the page's project
    yaml fragment       a part of one: must be YAML
    python              a script: must run
    python file=NAME    a file of the page's project
    python fragment     must be Python
    console             commands after `$ `, each followed by its output; run in the page's project
    ... file=NAME       likewise, of any language
    ... no-run          not run: needs a network, a key or a terminal
    console demo        what `make demo` prints: `test_readme.py`

All blocks of a page share one project folder, so a page can build something up. A page that begins with
`<!-- project: clone -->` has this repository's manifests in it. In expected output, `...` stands for any lines, or for the
rest of one; ages, times, uids and generated names are not compared.
"""

import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import warm

ROOT = Path(__file__).parents[2]
CHECKED = ("yaml", "python", "console")
_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=ticks)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_PROGRESS = re.compile(r"(?m)^(waiting for|applying \d+ objects|waiting until).*\n")
"""What commands say on standard error when something takes more than a second."""
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"sha256:[0-9a-f]{6,}"), "<hash>"),
    (re.compile(r"(?<=-)[bcdfghjklmnpqrstvwxz2456789]{5}\b"), "<generated>"),
    (re.compile(r"(?<![\w.])(\d+(\.\d+)?(ms|s|m|h|d))+(?!\w)"), "<age>"),
    (re.compile(r"\bpid \d+"), "pid <pid>"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its other words, its text, and where it stands."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    def option(self, name: str) -> str:
        """The value of `name=value` in the info string; empty if absent."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), "")


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        indent = match["indent"]
        body = "".join(line.removeprefix(indent) for line in match["text"].splitlines(keepends=True))
        yield Block(language, tuple(words), body, text.count("\n", 0, match.start()) + 1)


def normalised(text: str) -> str:
    """Output without what differs from run to run."""
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def matches(expected: str, actual: str) -> bool:
    """Whether output is as a page shows it."""
    lines = []
    for line in normalised(expected).splitlines():
        lines.append("(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n")
    wanted = "".join(lines) or "\n"
    return re.fullmatch(wanted, normalised(_PROGRESS.sub("", actual)) + "\n") is not None


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output expected."""
    command, output = "", ""
    lines = text.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], ""
        elif command.endswith("\\\n") or _open_here_document(command):
            command += line
        else:
            assert command, f"output before any command: {line!r}"
            output += line
        assert index or line.startswith("$ ")
    if command:
        yield command, output


def _open_here_document(command: str) -> bool:
    match = re.search(r"<<'?(\w+)'?", command)
    return match is not None and f"\n{match[1]}\n" not in command


class Project:
    """The folder in which the blocks of one page are run.

    Args:
        folder: empty.
        clone: whether it looks like a clone of this repository.
    """

    def __init__(self, folder: Path, *, clone: bool) -> None:
        self.folder = folder
        if clone:
            shutil.copytree(
                ROOT / "manifests", folder / "manifests", ignore=shutil.ignore_patterns("__pycache__", ".out")
            )
            shutil.copytree(ROOT / "docs" / "examples", folder / "docs" / "examples")
            shutil.copy(ROOT / "kastra.toml", folder)
        else:
            (folder / ".kastra").mkdir(mode=0o700)

    @property
    def environment(self) -> dict[str, str]:
        """Of a user who has just installed Kastra."""
        return warm.environment(COLUMNS="120")

    def write(self, name: str, text: str) -> None:
        """A file that the page shows."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line; its two outputs as one. After `cd FOLDER` alone, all that follows happens there."""
        if into := re.fullmatch(r"cd (\S+)\n", command):
            self.folder = self.folder / into[1]
            assert self.folder.is_dir(), command
            return subprocess.CompletedProcess(command, 0, "")
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )

    def script(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a Python script in the project."""
        file = self.folder / ".script.py"
        file.write_text(text, encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            compile(text, file.name, "exec")
        return self.shell(f"python {file.name}")
