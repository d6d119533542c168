"""The options that many verbs share, with one meaning each. Read next: `kastra.cli.arguments`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .session import default_namespace

if TYPE_CHECKING:
    from kastra.manifest.loader import Loaded

F = TypeVar("F", bound=Callable[..., Any])
_SUFFIXES = (".yaml", ".yml", ".json")


def examples(*lines: str) -> str:
    """What stands below a verb's help: command lines to copy, kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class DurationType(click.ParamType[float]):
    """`30s`, `1h30m`, `PT1H`; seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse what was typed."""
        from kastra.api.durations import parse_duration

        if isinstance(value, float):
            return value
        text = str(value)
        negative = text.startswith("-")
        try:
            seconds = parse_duration(text[1:] if negative else text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return -seconds if negative else seconds


DURATION = DurationType()


def namespace_option(command: F) -> F:
    """`-n`: where namespaced objects are looked for."""
    return click.option(
        "-n",
        "--namespace",
        default=default_namespace,
        metavar="NAME",
        help="Namespace (default: the context's, or default).",
    )(command)


def all_namespaces_option(command: F) -> F:
    """`-A`."""
    return click.option("-A", "--all-namespaces", is_flag=True, help="Objects of all namespaces.")(command)


def selector_options(command: F) -> F:
    """`-l` and `--field-selector`."""
    command = click.option(
        "--field-selector", default="", metavar="SELECTOR", help="Only objects with these fields (metadata.name=x)."
    )(command)
    return click.option("-l", "--selector", default="", metavar="SELECTOR", help="Only objects with these labels.")(
        command
    )


def filename_option(command: F) -> F:
    """`-f` and `-R`."""
    command = click.option(
        "-R", "--recursive/--no-recursive", default=True, help="Whether folders are read with their subfolders."
    )(command)
    return click.option(
        "-f",
        "--filename",
        "filenames",
        multiple=True,
        metavar="PATH",
        help="File, folder, glob, or - for standard input.",
    )(command)


def dry_run_option(command: F) -> F:
    """`--dry-run`."""
    return click.option(
        "--dry-run",
        type=click.Choice(["none", "client", "server"]),
        default="none",
        help="client: check and compare only; server: all of the server's checks. Neither stores anything.",
    )(command)


def dry_run_note(dry_run: str) -> str:
    """What follows a result that did not happen."""
    return {"client": " (dry run)", "server": " (server dry run)"}.get(dry_run, "")


def load_files(filenames: Sequence[str], *, recursive: bool = True, strict_yaml: bool = False) -> "Loaded":
    """The manifests of `-f` options, problems included."""
    from kastra.manifest.loader import load

    paths: list[str | Path] = []
    for name in filenames:
        folder = Path(name)
        if recursive or name == "-" or not folder.is_dir():
            paths.append(name)
        else:
            paths += sorted(f for f in folder.iterdir() if f.suffix in _SUFFIXES and not f.name.startswith("."))
    return load(paths, strict_yaml=strict_yaml)


def load_valid_files(filenames: Sequence[str], *, recursive: bool = True) -> "Loaded":
    """The manifests of `-f` options, for verbs that only need to know which objects are meant.

    Raises:
        ValueError: a file can't be read; the message is that of the first problem.
    """
    from kastra.manifest.problem import render

    loaded = load_files(filenames, recursive=recursive)
    if loaded.errors:
        raise ValueError(render(loaded.errors[0]))
    return loaded
