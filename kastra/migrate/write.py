"""Objects to files: one object per file, `<namespace>/<plural>/<name>.yaml`, the same each time.

One file per object, because objects are reviewed, moved and deleted one by one, and a source file holds what belongs in many
places. Nothing that exists is overwritten unless that is wanted; what would be written unchanged is left alone. Files with
keys can be read by their owner alone. Read next: `kastra.cli.migrate`.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kastra.manifest.encode import to_yaml

from .context import Draft

_PLURALS = {"CustomResourceDefinition": "customresourcedefinitions", "Namespace": "namespaces"}
PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class File:
    """A file to write, relative to the folder."""

    path: Path
    text: str
    private: bool = False


def files_of(drafts: Iterable[Draft]) -> list[File]:
    """The files of these objects."""
    found = []
    for draft in drafts:
        folder = _PLURALS.get(draft.kind, f"{draft.kind.lower()}s")
        place = Path(draft.namespace) / folder if draft.namespace else Path(folder)
        found.append(File(place / f"{draft.name}.yaml", to_yaml(draft.to_object()), draft.secret))
    return found


def write(files: Iterable[File], folder: Path, *, force: bool = False) -> list[Path]:
    """Write them; the paths of those that were written, without those that stood there unchanged.

    Raises:
        FileExistsError: one of them exists with another content, and `force` isn't given; nothing is written then.
        OSError: a file can't be written.
    """
    todo = []
    for file in files:
        path = folder / file.path
        if path.is_symlink():
            raise FileExistsError(f"{path} is a link; remove it")
        if path.exists() and path.is_file() and path.read_bytes() == file.text.encode():
            continue
        if path.exists() and not force:
            raise FileExistsError(f"{path} exists; nothing was written. Write elsewhere, or overwrite with --force")
        todo.append((path, file))
    for path, file in todo:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made anew under another name, so that neither its old mode nor a link decides who reads it.
        fresh = path.with_name(f".{path.name}.tmp")
        fresh.unlink(missing_ok=True)
        opened = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE if file.private else 0o666)
        with os.fdopen(opened, "wb") as stream:
            stream.write(file.text.encode())
        fresh.replace(path)
    return [path for path, _ in todo]
