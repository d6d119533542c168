"""Files of `templates/` with names filled in, and the one way in which scaffolding writes files.

A template is a file whose name ends in `.tmpl`; `@@{name}` in its text or path is replaced, everything else stays, above
all `${{ }}` and Python's decorators. A path component `dot-x` becomes `.x`, so that no tool takes a template for a real
`.gitignore`. Nothing that exists is changed unless the caller says so, and nothing is written when anything is in the way.

Read next: `kastra.scaffold.project`.
"""

import string
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_SUFFIX = ".tmpl"


class _Template(string.Template):
    delimiter = "@@"


class FilesExist(ValueError):
    """Files would be overwritten; the message lists them."""

    def __init__(self, paths: list[str], folder: Path, remedy: str) -> None:
        super().__init__(
            f"{folder}: {'this file exists' if len(paths) == 1 else 'these files exist'} and nothing was written: "
            f"{', '.join(paths)}; {remedy}"
        )
        self.paths = paths


def rendered(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """The files of one set of templates: text by path relative to the project, with `/`, in order.

    Raises:
        KeyError: a template names a value that isn't given.
    """
    root = files("kastra.scaffold").joinpath("templates", *name.split("/"))
    found = {
        _path(_Template(path).substitute(values)): _Template(text).substitute(values) for path, text in _texts(root)
    }
    return dict(sorted(found.items()))


def _texts(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _texts(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield f"{prefix}{entry.name.removesuffix(_SUFFIX)}", entry.read_text(encoding="utf-8")


def _path(path: str) -> str:
    return "/".join(f".{part[4:]}" if part.startswith("dot-") else part for part in path.split("/"))


def write(folder: Path, texts: Mapping[str, str], *, force: bool = False, remedy: str = "choose another name") -> None:
    """Write all of the files below `folder`, or none.

    Args:
        texts: by path relative to `folder`.
        force: overwrite files that exist. A folder in the place of a file is refused in any case.
        remedy: what the user can do when files are in the way.

    Raises:
        FilesExist: something is in the way.
        OSError: the folder can't be written to.
    """
    taken = [path for path in texts if (folder / path).exists() and not (force and (folder / path).is_file())]
    # A file where a folder is needed is in the way, too.
    taken += sorted(
        {
            str(parent.relative_to(folder))
            for path in texts
            for parent in (folder / path).parents
            if parent.is_relative_to(folder) and parent != folder and parent.exists() and not parent.is_dir()
        }
    )
    if taken:
        raise FilesExist(taken, folder, remedy)
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
