"""`kastra version`: what is installed. Imports next to nothing: scripts call it often."""

import platform
import sys
from typing import Any

import click

from kastra.version import __version__


@click.command()
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Form (default: text)."
)
def version(output: str) -> int:
    """Print versions of Kastra, Python and the SQLite inside, and of the server if one is named."""
    from kastra.sql.driver import choose

    from .session import remote_flags, settings_of

    settings = settings_of()
    driver = choose(settings.store, settings.driver or None)
    found: dict[str, Any] = {
        "kastra": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "driver": driver.name,
        "sqlite": ".".join(map(str, driver.version())),
    }
    if remote_flags():
        found["server"] = _server_version()
    if output == "text":
        click.echo("\n".join(f"{name + ':':<10}{value}" for name, value in found.items()))
    else:
        from .output import OutputFormat, write_value

        click.echo(write_value(OutputFormat(output), found), nl=False)
    return 0


def _server_version() -> str:
    """What the server that the flags name says of itself. It isn't asked for its kinds."""
    from .session import asking

    return str(asking(lambda client: client.version()).get("gitVersion") or "unknown")
