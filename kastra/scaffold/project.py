"""`kastra init`: a project that runs at once, without a key and without a network.

A project is a folder with `kastra.toml`. What all templates have in common is in `templates/project/common`; each adds
manifests whose models answer by rules, and a test that passes. Never changes a file that exists, unless told to.

Read next: `kastra.scaffold.additions`.
"""

from dataclasses import dataclass
from pathlib import Path

from .generation import module_texts
from .naming import project_name
from .templates import rendered, write

TEMPLATES = {
    "minimal": "an agent with a tool",
    "chat": "an agent that looks things up with two tools",
    "workflow": "a durable workflow over a list",
    "network": "two agents that work on a question",
    "kind": "a kind of your own, with controller",
}
"""What `kastra init --template` knows, and what each is."""

_KEEP = ".gitkeep"


@dataclass(frozen=True, slots=True)
class Created:
    """A new project.

    Args:
        folder: where it is.
        files: what was written, relative to the folder.
        commands: what to do next, in its folder.
    """

    folder: Path
    files: tuple[str, ...]
    commands: tuple[str, ...]


def create(path: Path, template: str = "minimal", *, force: bool = False) -> Created:
    """Make a project in `path`, a folder that needn't exist; its last part is the project's name.

    Args:
        template: one of `TEMPLATES`.
        force: overwrite files that exist.

    Raises:
        ValueError: the name can't be used, or there is no such template.
        FilesExist: files are in the way; nothing was written.
        OSError: the folder can't be written to.
    """
    folder = path.resolve()
    name = project_name(folder.name)
    if template not in TEMPLATES:
        raise ValueError(f'there is no template "{template}"; there are {", ".join(TEMPLATES)}')
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{path}: is a file; choose another name")
    texts = {
        **rendered("project/common", {"name": name}),
        **rendered(f"project/{template}", {"name": name}),
    }
    definitions = {path: text for path, text in texts.items() if path.startswith("crds/") and path.endswith(".yaml")}
    texts |= module_texts(definitions)
    folders = [file.rpartition("/")[0] for file in texts if not file.endswith(_KEEP)]
    # A folder with something in it needs nothing to keep it.
    texts = {
        file: text for file, text in texts.items() if not (file.endswith(_KEEP) and file.rpartition("/")[0] in folders)
    }
    write(folder, texts, force=force, remedy="choose another name, or overwrite them with --force")
    sources = "-f crds -f manifests" if definitions else "-f manifests"
    return Created(folder, tuple(sorted(texts)), (f"kastra apply {sources} --wait", "python -m pytest"))
