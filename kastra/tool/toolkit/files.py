"""Group `files`: a folder of the project, and nothing outside it.

Read next: `kastra.tool.toolkit.jail`, which does the walking, and `kastra.tool.toolkit.search`, the rest of the group.
"""

import hashlib
import os
import stat
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from kastra.clock import rfc3339
from kastra.tool.toolkit.bounds import MAX_ITEMS, MAX_TEXT, clip
from kastra.tool.toolkit.builtin import ADD, CHANGE, READ, REMOVE, REPLACE, WRITE, Builtin, unfit
from kastra.tool.toolkit.jail import parts_of
from kastra.tool.toolkit.kit import Kit
from kastra.tool.toolkit.search import find_names, find_text

Path = Annotated[str, "Path relative to the tool's folder, such as notes/today.md."]
Folder = Annotated[str, "Folder relative to the tool's folder; empty for the folder itself."]
Overwrite = Annotated[bool, "Whether a file that is there already is replaced."]
_SETTINGS = ("folder", "maxBytes")


def list_folder(kit: Kit, path: Folder = "") -> dict[str, Any]:
    """List the files and folders in a folder, with sizes."""
    entries: list[dict[str, Any]] = []
    with kit.jail.folder(parts_of(path)) as descriptor:
        names = sorted(os.listdir(descriptor))  # noqa: PTH208 - a descriptor, not a path
        for name in names[:MAX_ITEMS]:
            try:
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not kit.jail.is_private(found):
                entries.append({"name": name, **_facts(found)})
    result: dict[str, Any] = {"entries": entries}
    if len(names) > MAX_ITEMS:
        result["truncated"] = f"the first {MAX_ITEMS:,} of {len(names):,} entries; files.glob finds by pattern"
    return result


def read(kit: Kit, path: Path) -> str:
    """Read a whole text file (UTF-8)."""
    return clip(kit.jail.text(path), rest="files.read_lines reads any part")


def read_lines(
    kit: Kit,
    path: Path,
    start: Annotated[int, "Number of the first line, from 1."] = 1,
    count: Annotated[int, "Lines to read, at most 2000."] = 200,
) -> dict[str, Any]:
    """Read some lines of a text file, however large the file is."""
    if start < 1 or not 1 <= count <= 2000:
        raise unfit("start must be at least 1, count from 1 to 2000")
    lines: list[str] = []
    size, number, more = 0, 0, False
    with kit.jail.opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        # Bounded per line: a file without line ends is one line of any length.
        while chunk := file.readline(MAX_TEXT):
            number += 1
            if number < start:
                continue
            size += len(chunk)
            if len(lines) == count or size > MAX_TEXT:
                more = True
                break
            lines.append(chunk.decode("utf-8", "replace").rstrip("\r\n"))
    result: dict[str, Any] = {"start": start, "lines": lines}
    if more:
        result["more"] = f"continue with start {start + len(lines)}"
    return result


def write(kit: Kit, path: Path, content: str, overwrite: Overwrite = False) -> dict[str, Any]:
    """Write a text file; folders on the way are made. Refuses to replace a file unless overwrite is set."""
    data = content.encode("utf-8", "surrogatepass")
    kit.jail.write(path, data, overwrite=overwrite)
    return {"path": path, "bytes": len(data)}


def append(kit: Kit, path: Path, content: str) -> dict[str, Any]:
    """Add text to the end of a file, which is made if it isn't there."""
    return {"path": path, "bytes": kit.jail.append(path, content.encode("utf-8", "surrogatepass"))}


def edit(
    kit: Kit,
    path: Path,
    old: Annotated[str, "The text to replace, exactly as it stands in the file."],
    new: Annotated[str, "What to put in its place."],
    count: Annotated[int, "How often old must occur; every occurrence is replaced."] = 1,
) -> dict[str, Any]:
    """Replace a passage of a text file; refuses if it doesn't occur exactly as often as expected."""
    if not old:
        raise unfit("old: must not be empty")
    text = kit.jail.text(path)
    found = text.count(old)
    if found != count:
        hint = (
            "quote it exactly, with blanks and line ends"
            if found == 0
            else f"quote more of it, or set count to {found}"
        )
        raise unfit(f"old: occurs {found} times in {path!r}, not {count}; {hint}")
    kit.jail.write(path, text.replace(old, new).encode("utf-8", "surrogatepass"))
    return {"path": path, "replaced": found}


def move(kit: Kit, source: Path, target: Path, overwrite: Overwrite = False) -> dict[str, Any]:
    """Move or rename a file or folder."""
    kit.jail.move(source, target, overwrite=overwrite)
    return {"path": target}


def copy(kit: Kit, source: Path, target: Path, overwrite: Overwrite = False) -> dict[str, Any]:
    """Copy a file."""
    data = kit.jail.read(source)
    kit.jail.write(target, data, overwrite=overwrite)
    return {"path": target, "bytes": len(data)}


def delete(
    kit: Kit, path: Path, recursive: Annotated[bool, "Whether a folder goes with all that is in it."] = False
) -> dict[str, Any]:
    """Delete a file, or a folder: an empty one, or with everything in it if recursive is set."""
    found = kit.jail.stat(path)
    removed = 0
    if stat.S_ISDIR(found.st_mode):
        inside = list(kit.jail.walk(path))
        if inside and not recursive:
            raise unfit(f"{path!r} is a folder that isn't empty; set recursive to delete it with all that is in it")
        for inner, _folder, _name, facts in reversed(inside):
            _remove(kit, inner, folder=stat.S_ISDIR(facts.st_mode))
            removed += 1
        _remove(kit, path, folder=True)
    else:
        _remove(kit, path, folder=False)
    return {"deleted": removed + 1}


def _remove(kit: Kit, path: str, *, folder: bool) -> None:
    with kit.jail.parent(path) as (descriptor, name):
        try:
            if folder:
                os.rmdir(name, dir_fd=descriptor)
            else:
                os.unlink(name, dir_fd=descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unfit(f"{path!r} can't be deleted: {error.strerror}") from None


def mkdir(kit: Kit, path: Path) -> dict[str, Any]:
    """Make a folder, and those on the way to it."""
    with kit.jail.folder(parts_of(path), make=True):
        return {"path": path}


def glob(
    kit: Kit,
    pattern: Annotated[str, "Such as **/*.md: * within a name, ** across folders, ? one character."],
    path: Folder = "",
) -> dict[str, Any]:
    """Find files and folders by a pattern of their paths."""
    return find_names(kit.jail, pattern, path)


def grep(
    kit: Kit,
    pattern: Annotated[str, "Regular expression (RE2)."],
    path: Folder = "",
    files: Annotated[str, "Pattern of the paths to look at, such as **/*.py."] = "**",
    ignore_case: bool = False,
) -> dict[str, Any]:
    """Find lines that match a regular expression in the text files of a folder."""
    return find_text(kit.jail, pattern, path, files, ignore_case=ignore_case)


def stat_file(kit: Kit, path: Path) -> dict[str, Any]:
    """Tell size, kind and time of change of a file or folder."""
    return {"path": path, **_facts(kit.jail.stat(path))}


def hash_file(kit: Kit, path: Path, algorithm: Literal["sha256", "sha512", "sha1", "md5"] = "sha256") -> dict[str, str]:
    """Hash the content of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with kit.jail.opened(path) as descriptor:
        while data := os.read(descriptor, 1 << 20):
            digest.update(data)
    return {"algorithm": algorithm, "hash": digest.hexdigest()}


def _facts(found: os.stat_result) -> dict[str, Any]:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "other")
    facts: dict[str, Any] = {"type": kind, "modified": rfc3339(datetime.fromtimestamp(found.st_mtime, UTC))}
    if kind == "file":
        facts["bytes"] = found.st_size
    return facts


TOOLS = (
    Builtin("files.list", list_folder, READ, _SETTINGS),
    Builtin("files.read", read, READ, _SETTINGS),
    Builtin("files.read_lines", read_lines, READ, _SETTINGS),
    Builtin("files.write", write, REPLACE, _SETTINGS),
    Builtin("files.append", append, ADD, _SETTINGS),
    Builtin("files.edit", edit, CHANGE, _SETTINGS),
    Builtin("files.move", move, CHANGE, _SETTINGS),
    Builtin("files.copy", copy, REPLACE, _SETTINGS),
    Builtin("files.delete", delete, REMOVE, _SETTINGS),
    Builtin("files.mkdir", mkdir, WRITE, _SETTINGS),
    Builtin("files.glob", glob, READ, _SETTINGS),
    Builtin("files.grep", grep, READ, _SETTINGS),
    Builtin("files.stat", stat_file, READ, _SETTINGS),
    Builtin("files.hash", hash_file, READ, _SETTINGS),
)
