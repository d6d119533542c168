"""`kastra doctor`: is the store sound, how fast is its disk, is everything installed? Changes nothing.

Exit code 1 when something is wrong; warnings alone are 0. Read next: `kastra.sql.doctor`.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from kastra.version import __version__

from .session import settings_of

if TYPE_CHECKING:
    from kastra.config import Settings

_LIBRARIES = ("pydantic", "jsonschema", "httpx2", "cel_expr_python", "re2", "cryptography", "watchfiles", "jsonpatch")


class Finding(NamedTuple):
    """One line: `level` is ok, warning or error."""

    level: str
    subject: str
    text: str


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form (default: text).")
def doctor(output: str) -> int:
    """Check the store file, the disk and the installation."""
    settings = settings_of()
    findings = [*_installation(), *_plugins(), *_project(settings), *_store(settings)]
    if output == "json":
        from .output import to_json

        click.echo(to_json([finding._asdict() for finding in findings]), nl=False)
    else:
        for finding in findings:
            click.echo(f"{finding.level:<9}{finding.subject}: {finding.text}")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def _installation() -> Iterator[Finding]:
    yield Finding("ok", "kastra", f"{__version__}, Python {sys.version.split()[0]}, {sys.prefix}")
    for name in _LIBRARIES:
        try:
            import_module(name)
        except ImportError as error:
            yield Finding("error", name, f"can't be imported: {error}; install kastra again")


def _plugins() -> Iterator[Finding]:
    from .plugins import survey

    for plugin, reason in survey():
        if reason:
            yield Finding("error", f"plugin {plugin.name}", f"{plugin.group} of {plugin.source}: {reason}")
        else:
            yield Finding("ok", f"plugin {plugin.name}", f"{plugin.group} of {plugin.source}")


def _project(settings: "Settings") -> Iterator[Finding]:
    from kastra.app.composition import discover_controllers
    from kastra.config import FILE_NAME

    file = settings.project / FILE_NAME
    yield Finding("ok", "project", f"{settings.project}{'' if file.is_file() else f' (no {FILE_NAME})'}")
    try:
        found = discover_controllers(settings)
    except Exception as error:  # noqa: BLE001 - a project's own code may fail in any way, and this verb is for saying so
        yield Finding("error", "controllers", str(error))
    else:
        kinds = ", ".join(sorted(kind for _, kind in found.validators)) or "none"
        yield Finding("ok", "controllers", f"views of {kinds}")


def _store(settings: "Settings") -> Iterator[Finding]:
    path = settings.store
    if not path.is_file():
        yield Finding("ok", "store", f"{path} doesn't exist yet; the first apply makes it")
        return
    from kastra.sql.doctor import diagnose

    found = diagnose(path, driver=settings.driver or None)
    for problem in found.problems:
        yield Finding("error", "store", problem)
    if not found.problems:
        sqlite = ".".join(map(str, found.sqlite))
        text = f"{path}: {found.size:,} bytes, log {found.log_size:,} bytes, revision {found.revision}"
        yield Finding("ok", "store", f"{text}, schema {found.schema}, {found.driver} (SQLite {sqlite})")
    else:
        yield Finding("error", "store", "put back a backup with 'kastra restore FILE --force'")
    if found.holder is not None:
        yield Finding("ok", "owner", f"{found.holder.command} (pid {found.holder.pid})")
    if found.syncs_per_second:
        rate = found.syncs_per_second
        yield Finding("ok", "disk", f"{rate:,} durable writes per second, {1000 / rate:.2f} ms each")
    for warning in found.warnings:
        yield Finding("warning", "store", warning)
    for name in ("kastra.db", "secret.key"):
        yield from _permissions(settings.data / name)


def _permissions(path: Path) -> Iterator[Finding]:
    if path.is_file() and path.stat().st_mode & 0o077:
        mode = oct(path.stat().st_mode & 0o777)[2:]
        yield Finding("warning", path.name, f"others of this machine can read it (mode {mode}); chmod 600 {path}")
