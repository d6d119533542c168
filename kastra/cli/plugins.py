"""`kastra plugins`: what installed packages add to Kastra, and whether it loads. Imports every one of them to find out.

Read next: `kastra.plugins`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .layout import aligned
from .options import examples

if TYPE_CHECKING:
    from kastra.plugins import Plugin

LOADED = "Loaded"
FAILED = "Failed"
_HEADERS = ("NAME", "GROUP", "PACKAGE", "VERSION", "STATUS")
_WIDE = ("MODULE", "REASON")


class PluginState(NamedTuple):
    """A plugin, and `reason` why it can't be used; empty if it can."""

    plugin: "Plugin"
    reason: str

    @property
    def status(self) -> str:
        """`Loaded` or `Failed`."""
        return FAILED if self.reason else LOADED


@click.command(epilog=examples("kastra plugins", "kastra plugins -o wide", "kastra plugins --all -o json"))
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml"]), help="wide adds modules and reasons.")
@click.option("--all", "everything", is_flag=True, help="Also what is built in.")
@click.option("--no-headers", is_flag=True, help="Rows without headers.")
def plugins(output: str | None, everything: bool, no_headers: bool) -> int:
    """List what installed packages add to Kastra, and whether it loads."""
    states = survey(builtin=everything)
    if output in ("json", "yaml"):
        from .output import OutputFormat, write_value

        click.echo(write_value(OutputFormat(output), [_record(state) for state in states]), nl=False)
        return 0
    if not states:
        click.echo("No installed package adds anything to Kastra.", err=True)
        return 0
    wide = output == "wide"
    headers = [] if no_headers else [(*_HEADERS, *(_WIDE if wide else ()))]
    click.echo("\n".join(aligned([*headers, *(_row(state, wide=wide) for state in states)])))
    return 0


def survey(*, builtin: bool = False) -> list[PluginState]:
    """Try every plugin.

    Args:
        builtin: also what comes with Kastra.
    """
    from kastra.plugins import GROUPS

    found: list[PluginState] = []
    with _unlogged():
        for group in GROUPS:
            found += _of_group(group, builtin=builtin)
    return found


@contextmanager
def _unlogged() -> Iterator[None]:
    """What is wrong is this command's output; it needn't be in the log as well."""
    log = logging.getLogger("kastra.plugins")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _of_group(group: str, *, builtin: bool) -> list[PluginState]:
    from kastra.plugins import OWN, everything

    own, check = _BY_GROUP[group]()
    found = [PluginState(plugin, "") for plugin in own] if builtin else []
    taken = {plugin.name: plugin for plugin in own}
    for plugin in everything(group):
        if plugin.distribution == OWN:
            continue
        holder = taken.get(plugin.name)
        if group != "kastra.controllers" and holder is not None:
            whose = "built in" if holder.distribution == OWN else f"of {holder.source}"
            found.append(PluginState(plugin, f'the name "{plugin.name}" is taken: it is {whose}'))
        else:
            taken[plugin.name] = plugin
            found.append(PluginState(plugin, check(plugin)))
    return found


Check = Callable[["Plugin"], str]
_Group = tuple[list["Plugin"], Check]


def _reason(use: Callable[[], Any]) -> str:
    from kastra.plugins import PluginError

    try:
        use()
    except PluginError as error:
        return error.reason
    return ""


def _controllers() -> _Group:
    from kastra.plugins import OWN, everything
    from kastra.runtime.discovery import discover

    failed = {error.plugin: error.reason for error in discover().failures}
    own = [plugin for plugin in everything("kastra.controllers") if plugin.distribution == OWN]
    return own, lambda plugin: failed.get(plugin, "")


def _models() -> _Group:
    from kastra.model.providers import BUILT_IN, load_factory, plugin_of

    return [plugin_of(name) for name in BUILT_IN], lambda plugin: _reason(lambda: load_factory(plugin))


def _tools() -> _Group:
    from kastra.plugins import load
    from kastra.tool.python import plugin_problem

    return [], lambda plugin: _reason(lambda: load(plugin, plugin_problem))


def _vectors() -> _Group:
    from kastra.memory.backends import BUILT_IN, GROUP, problem
    from kastra.plugins import OWN, Plugin, load

    own = [Plugin(GROUP, BUILT_IN, "kastra.memory.vectors:VectorIndex", OWN, "")]
    return own, lambda plugin: _reason(lambda: load(plugin, problem))


def _admission() -> _Group:
    from kastra.app.admission_plugins import hook_problem
    from kastra.plugins import load

    return [], lambda plugin: _reason(lambda: load(plugin, hook_problem))


def _commands() -> _Group:
    from kastra.plugins import load

    from .main import builtin_verbs, command_problem

    return builtin_verbs(), lambda plugin: _reason(lambda: load(plugin, command_problem))


_BY_GROUP: dict[str, Callable[[], _Group]] = {
    "kastra.admission": _admission,
    "kastra.commands": _commands,
    "kastra.controllers": _controllers,
    "kastra.models": _models,
    "kastra.tools": _tools,
    "kastra.vectors": _vectors,
}


def _record(state: PluginState) -> dict[str, str]:
    plugin = state.plugin
    return {
        "name": plugin.name,
        "group": plugin.group,
        "package": plugin.distribution,
        "version": plugin.version,
        "module": plugin.value,
        "status": state.status,
        **({"reason": state.reason} if state.reason else {}),
    }


def _row(state: PluginState, *, wide: bool) -> tuple[str, ...]:
    plugin = state.plugin
    row = (plugin.name, plugin.group, plugin.distribution, plugin.version or "-", state.status)
    return (*row, plugin.value, state.reason or "-") if wide else row
