"""`kastra edit`: change an object in your editor.

The store isn't held while the editor is open; what was changed is sent as a patch, so that somebody else's changes to other
fields stay. A refusal opens the editor again with the reason on top. Source: kubectl edit.
"""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .arguments import display, find_resource, parse_one, ref_of
from .completing import complete_objects
from .options import namespace_option
from .output import presented
from .session import announced, owning, reading, say

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.app.operations import Operations
    from kastra.client.interface import Client

_HEADER = """\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
"""


@click.command()
@click.argument("arguments", nargs=-1, metavar="KIND NAME | KIND/NAME", shell_complete=complete_objects)
@namespace_option
@click.option("--show-managed-fields", is_flag=True, help="Show metadata.managedFields.")
def edit(arguments: tuple[str, ...], namespace: str, show_managed_fields: bool) -> int:
    """Change an object in your editor (KUBE_EDITOR, EDITOR, or vi)."""
    original = reading(lambda client: _get(client, arguments, namespace))
    shown = presented(original.data, managed_fields=show_managed_fields)
    text = _to_text(shown)
    reason = ""
    folder = Path(tempfile.mkdtemp(prefix="kastra-edit-"))
    file = folder / f"{original.kind.lower()}-{original.name}.yaml"
    try:
        while True:
            before = _commented(reason) + text
            file.write_text(_HEADER + before, encoding="utf-8")
            _open_editor(file)
            text = _uncommented(file.read_text(encoding="utf-8"))
            if not text.strip() or text == _uncommented(before):
                if reason:
                    kept = _keep(file)
                    say(f"error: Edit cancelled, no valid changes were saved. A copy of your changes is in {kept}")
                    return 1
                click.echo("Edit cancelled, no changes made.")
                return 0
            try:
                patch = _patch(shown, text, original)
                if not patch:
                    click.echo("Edit cancelled, no changes made.")
                    return 0
                owning(lambda kastra: _send(kastra, original, patch))  # noqa: B023 - it is called at once
            except _Refused as refused:
                reason = str(refused)
                continue
            return 0
    finally:
        file.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


class _Refused(Exception):
    """What was written can't be stored; the message says why."""


async def _get(client: "Client", arguments: tuple[str, ...], namespace: str) -> "Object":
    resource, name = parse_one(client.scheme, arguments)
    return await client.get(ref_of(resource, name, namespace))


def _patch(shown: Mapping[str, Any], text: str, original: "Object") -> dict[str, Any]:
    from kastra.api.patch import create_merge_patch
    from kastra.manifest.decode import DecodeError, decode

    try:
        documents = decode(text.encode())
    except DecodeError as error:
        raise _Refused(f"line {error.line}: {error.message}") from error
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise _Refused("exactly one object is needed")
    edited: dict[str, Any] = documents[0].value
    metadata = edited.get("metadata")
    same = isinstance(metadata, dict) and (
        edited.get("apiVersion"),
        edited.get("kind"),
        metadata.get("name"),
        metadata.get("namespace", ""),
    ) == (original.api_version, original.kind, original.name, original.namespace)
    if not same:
        raise _Refused("apiVersion, kind, name and namespace can't be changed")
    return create_merge_patch(shown, edited)


async def _send(kastra: "Operations", original: "Object", patch: Mapping[str, Any]) -> None:
    from kastra.api.errors import StatusError
    from kastra.client.interface import PatchType, WriteOptions

    options = WriteOptions(field_manager="kastra-edit", field_validation="Strict")
    try:
        after = await kastra.client.patch(original.ref, patch, PatchType.MERGE, options)
    except StatusError as error:
        raise _Refused(error.message) from error
    kind = display(find_resource(kastra.client.scheme, original.ref.kind))
    # A change of status alone, say, isn't one of this object's own.
    changed = after.resource_version != original.resource_version
    click.echo(f"{kind}/{original.name} {'edited' if changed else 'not changed'}")
    with announced("waiting for the controllers"):
        await kastra.settle()


def _to_text(shown: Mapping[str, Any]) -> str:
    from kastra.manifest.encode import to_yaml

    return to_yaml(shown)


def _commented(reason: str) -> str:
    return "".join(f"# {line}\n" for line in reason.splitlines()) + "#\n" if reason else ""


def _uncommented(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _open_editor(file: Path) -> None:
    command = os.environ.get("KUBE_EDITOR") or os.environ.get("EDITOR") or "vi"
    try:
        code = subprocess.run([*shlex.split(command), str(file)], check=False).returncode  # noqa: S603 - the user's own editor
    except OSError as error:
        raise ValueError(f'the editor "{command}" can\'t be started ({error.strerror}); set KUBE_EDITOR') from error
    if code:
        raise ValueError(f'there was a problem with the editor "{command}": it ended with code {code}')


def _keep(file: Path) -> Path:
    kept = file.with_suffix(".kept.yaml")
    file.replace(kept)
    return kept
