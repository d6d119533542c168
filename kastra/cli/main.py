"""The entry point: `kastra VERB ...`. Loads a verb's module only when that verb is used.

Every verb lives in a module of this package; the table below is all that is imported to print the help. Installed packages add
verbs by entry points in the group `kastra.commands`, looked for when a verb isn't in the table, and by the help. Exit codes: 0 done,
1 refused or failed, 2 wrong usage, 130 interrupted, 143 terminated. Read next: `kastra.cli.session`, which opens the store.
"""

import gc
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import report

if TYPE_CHECKING:
    from kastra.plugins import Plugin

_RARELY = (100_000, 20, 100)
"""Thresholds of the garbage collector until an open store sets its own (`kastra.app.pauses`)."""

_VERBS: dict[str, tuple[str, str]] = {
    "annotate": ("kastra.cli.label", "Set or remove annotations of an object"),
    "approve": ("kastra.cli.approve", "Decide about what a Run asks, or list what waits"),
    "api-resources": ("kastra.cli.api_resources", "List the kinds that exist"),
    "apply": ("kastra.cli.apply", "Make files, folders or standard input the desired state"),
    "auth": ("kastra.cli.auth", "Who am I, what may I do, tokens of ServiceAccounts"),
    "backup": ("kastra.cli.backup", "Copy the store, consistently, while it is in use"),
    "cancel": ("kastra.cli.control", "End a Run"),
    "controllers": ("kastra.cli.controllers", "Run the project's controllers against a server"),
    "chat": ("kastra.cli.chat", "Talk to an Agent"),
    "completion": ("kastra.cli.completion", "Print a shell completion script"),
    "delete": ("kastra.cli.delete", "Delete objects by name, file or selector"),
    "describe": ("kastra.cli.describe", "Show an object with its conditions and events"),
    "dev": ("kastra.cli.dev", "Work on a project: serve it, and apply and reload what is saved"),
    "diff": ("kastra.cli.diff", "Show what apply would change"),
    "doctor": ("kastra.cli.doctor", "Check the store file, the disk and the installation"),
    "edit": ("kastra.cli.edit", "Change an object in your editor"),
    "events": ("kastra.cli.events", "List events"),
    "explain": ("kastra.cli.explain", "Document a kind or one of its fields"),
    "generate": ("kastra.cli.generate", "Make typed views from the definitions of the project's kinds"),
    "get": ("kastra.cli.get", "List objects"),
    "graph": ("kastra.cli.graph", "Draw a Workflow, a Network or a Run"),
    "history": ("kastra.cli.history", "Show the journal of a Run"),
    "init": ("kastra.cli.init", "Make a project in a new folder"),
    "label": ("kastra.cli.label", "Set or remove labels of an object"),
    "logs": ("kastra.cli.logs", "Show the events of a Run"),
    "plugins": ("kastra.cli.plugins", "List what installed packages add, and whether it loads"),
    "mcp": ("kastra.cli.mcp", "Serve exported Agents, Workflows and Tools to an MCP client that starts this"),
    "new": ("kastra.cli.new", "Add a kind or an object to the project"),
    "migrate": ("kastra.cli.migrate", "Convert configuration of older dialects to manifests"),
    "record": ("kastra.cli.record", "Run something and keep what its models say, to be replayed without them"),
    "rerun": ("kastra.cli.control", "Do what a Run did once more"),
    "restore": ("kastra.cli.backup", "Put a backup in place of the store"),
    "resume": ("kastra.cli.control", "Let a Run go on, or answer the step that is held"),
    "run": ("kastra.cli.run", "Run a Workflow, Network, Agent or Tool and print its output"),
    "serve": ("kastra.cli.serve", "Serve the Kubernetes API, with controllers and Runs"),
    "signal": ("kastra.cli.control", "Send an event to a Run"),
    "suspend": ("kastra.cli.control", "Let a Run begin nothing further"),
    "threads": ("kastra.cli.threads", "Show, search, copy and delete what agents remember"),
    "tools": ("kastra.cli.tools", "List the built-in tools, or describe one"),
    "test": ("kastra.testing.command", "Run tests of workflows, agents and tools in virtual time"),
    "users": ("kastra.cli.users", "Users with a token: add, list, remove"),
    "validate": ("kastra.cli.validate", "Check manifests without applying them"),
    "version": ("kastra.cli.version", "Print versions"),
    "wait": ("kastra.cli.wait", "Wait for a condition of objects"),
    "watch": ("kastra.cli.watch", "Run the controllers and show the reconcile loop live"),
}


_LOCAL: dict[str, str] = {
    "backup": "it copies the store's file; run it where the server's store is",
    "plugins": "it lists what is installed here",
    "generate": "it writes files of the project",
    "init": "it writes files of a new project",
    "new": "it writes files of the project",
    "dev": "it is the server, for the project in which it runs",
    "doctor": "it looks at the store's file and disk; run it where the server's store is",
    "record": "it writes files of the project, which a server elsewhere doesn't do for it",
    "restore": "it replaces the store's file; run it where the server's store is",
    "serve": "it is the server; other commands talk to it",
    "tools": "it lists what is built in here",
    "test": "it runs everything in memory, here",
    "users": "it changes the server's files; run it where these are",
    "watch": "it runs the controllers itself, and a server doesn't tell what its own do; 'kastra get -w' and 'kastra events "
    "-w' follow objects there",
}
"""Verbs that don't work on a server elsewhere, and why."""


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*_VERBS, *(plugin.name for plugin in _plugins())])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return _plugin_command(cmd_name)
        command = getattr(import_module(_VERBS[cmd_name][0]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from kastra.api.names import closest

            near = closest(args[0], self.list_commands(ctx))
            hint = f'; did you mean "{near}"?' if near else ""
            ctx.fail(f'no such verb "{args[0]}"{hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in sorted(_VERBS.items())])
        if plugins := _plugins():
            with formatter.section("Verbs of installed packages"):
                formatter.write_dl([(plugin.name, f"of {plugin.source}") for plugin in plugins])


def _plugins() -> "list[Plugin]":
    from kastra.plugins import installed

    return installed("kastra.commands", reserved=_VERBS)


def builtin_verbs() -> "list[Plugin]":
    """The verbs that come with Kastra, described as plugins are."""
    from kastra.plugins import OWN, Plugin

    return [
        Plugin("kastra.commands", verb, f"{module}:{verb.replace('-', '_')}", OWN, "")
        for verb, (module, _) in sorted(_VERBS.items())
    ]


def command_problem(command: Any) -> str:
    """What keeps an object from being a verb; an empty text if nothing does."""
    return "" if isinstance(command, click.Command) else "is no click.Command"


def _plugin_command(name: str) -> click.Command | None:
    """The verb that an installed package adds. Raises ClickException if the package doesn't load."""
    from kastra.plugins import PluginError, load

    for plugin in _plugins():
        if plugin.name == name:
            try:
                command: click.Command = load(plugin, command_problem)
            except PluginError as error:
                raise click.ClickException(str(error)) from None
            return command
    return None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the store (default: .kastra in the project).")
@click.option("--driver", type=click.Choice(["libsql", "sqlite3"]), help="SQLite library that opens the store.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Structured log on stderr.")
@click.option("--kubeconfig", envvar="KASTRA_KUBECONFIG", metavar="FILE", help="Talk to the server of this kubeconfig.")
@click.option(
    "--context", envvar="KASTRA_CONTEXT", metavar="NAME", help="Talk to the server of this kubeconfig context."
)
@click.option("-s", "--server", envvar="KASTRA_SERVER", metavar="URL", help="Talk to the server at this address.")
@click.pass_context
def cli(context: click.Context, /, **flags: Any) -> None:
    """Kubernetes' way of working for AI agents: declare in YAML, apply, and controllers make it real."""
    # The flags stay in the group's context; `kastra.cli.session` reads them from it.
    reason = _LOCAL.get(context.invoked_subcommand or "")
    given = [name for name in ("kubeconfig", "context", "server") if flags[name]]
    if reason and given:
        raise click.UsageError(
            f"--{given[0]}: 'kastra {context.invoked_subcommand}' works on this machine only: {reason}"
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if arguments is None:
        # What is imported stays: looking through it for garbage again and again is a tenth of the time of a short verb.
        gc.set_threshold(*_RARELY)
    try:
        code = cli.main(args=arguments, prog_name="kastra", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): that is its right, and no error of ours.
        sys.stderr.close()
        code = 0
    except Exception as error:  # noqa: BLE001 - the last place: whatever it is, the user gets one line
        code = report(error)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
