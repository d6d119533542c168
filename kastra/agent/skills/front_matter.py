"""What does a SKILL.md say? The name and description of its front matter, and the instructions behind it.

Strict where an agent would otherwise lack something without anybody noticing: a mistake is told with file, line and column. Fields
other than `name` and `description` are left alone.

Source: the Agent Skills format (agentskills.io). Read next: `kastra.agent.skills.shelf`, which finds the files.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from kastra.manifest.decode import DecodeError, Document, decode
from kastra.manifest.position import Positions

FILE = "SKILL.md"
MOST_NAME = 64
MOST_DESCRIPTION = 1024
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LINE = "---"
_FORM = "it must begin with a line ---, name and description, and another line ---"


class SkillProblem(Exception):
    """A skill can't be used.

    Args:
        message: for people, beginning with the place.
        missing: whether it isn't there, rather than wrong.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.missing = missing


@dataclass(frozen=True, slots=True)
class SkillText:
    """What a SKILL.md says.

    Args:
        name: of the skill.
        description: what it does and when it is of use, in one line.
        instructions: Markdown.
    """

    name: str
    description: str
    instructions: str


@lru_cache(maxsize=256)
def parse(data: bytes, where: str, folder: str = "") -> SkillText:
    """A SKILL.md, read. The same bytes are read once.

    Args:
        data: the file.
        where: it is, for messages.
        folder: the name that the skill must have; empty for any.

    Raises:
        SkillProblem: it isn't one.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillProblem(f"{where}:{data[: error.start].count(10) + 1}:1: it is not UTF-8 text") from None
    lines = text.split("\n")
    if lines[0].rstrip() != _LINE:
        raise SkillProblem(f"{where}:1:1: there is no front matter: {_FORM}")
    end = next((index for index, line in enumerate(lines) if index and line.rstrip() == _LINE), 0)
    if not end:
        raise SkillProblem(f"{where}:1:1: the front matter has no end: {_FORM}")
    front = _Front("\n".join(lines[1:end]), where)
    name, description = front.text("name"), " ".join(front.text("description").split())
    if len(name) > MOST_NAME or not _NAME.fullmatch(name):
        raise front.wrong("name", f"must be at most {MOST_NAME} small letters, digits and single hyphens")
    if folder and name != folder:
        raise front.wrong("name", f"must be that of the folder, {folder!r}")
    if not 0 < len(description) <= MOST_DESCRIPTION:
        raise front.wrong("description", f"must have 1 to {MOST_DESCRIPTION:,} characters, not {len(description):,}")
    instructions = "\n".join(line.rstrip("\r") for line in lines[end + 1 :]).strip()
    if not instructions:
        raise SkillProblem(f"{where}:{end + 1}:1: there are no instructions behind the front matter")
    return SkillText(name, description, instructions)


class _Front:
    """The fields between the two lines, with their places in the file."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        try:
            documents = decode(text.encode())
        except DecodeError as error:
            raise self._at(error.line, error.column, error.message) from None
        self._document = documents[0] if documents else Document({}, Positions({}))
        if len(documents) > 1 or not isinstance(self._document.value, dict):
            raise self._at(1, 1, "the front matter must be fields: name, description")

    def text(self, field: str) -> str:
        """A field that must be a text. Raises SkillProblem."""
        value = self._document.value.get(field)
        if value is None:
            raise self._at(1, 1, f"the front matter has no {field}")
        if not isinstance(value, str):
            raise self.wrong(field, f"must be a text, not {type(value).__name__}; put it in quotes")
        return value

    def wrong(self, field: str, what: str) -> SkillProblem:
        """What is wrong with a field."""
        place, _ = self._document.positions.find((field,))
        return self._at(place.value.line, place.value.column, f"{field}: {what}")

    def _at(self, line: int, column: int, what: str) -> SkillProblem:
        return SkillProblem(f"{self._where}:{line + 1}:{column}: {what}")
