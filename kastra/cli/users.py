"""`kastra users`: who has a token for the server of this project, and in which groups they are; and certificates for users.

Works on the data folder, beside a running server, which notices (a removal within a second). What users may do is said by roles.
"""

import re
from pathlib import Path

import click

from .layout import aligned
from .options import examples
from .session import say, settings_of

_NEEDS_SERVER = "--kubeconfig needs the server's address: start it with 'kastra serve' first"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_SHORTEST, _LONGEST = 60.0, 365 * 86400.0


@click.group(
    epilog=examples(
        "kastra users add ada --group team-a",
        "kastra users add ci --kubeconfig ci.kubeconfig",
        "kastra users list",
        "kastra users remove ada",
        "kastra users certificate ada --group team-a --duration 8h",
    )
)
def users() -> None:
    """Users with a token: add, list, remove. Certificates for users."""


@users.command()
@click.argument("name")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="A group to be in; repeatable.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a kubeconfig there instead of printing the token; the server must be running.",
)
def add(name: str, groups: tuple[str, ...], kubeconfig: Path | None) -> int:
    """Give NAME a token, which is shown this once; a user who has one gets another in its place."""
    from kastra.apiserver.authentication import new_token, token_hash
    from kastra.app.access import ADMIN, NamedUser, kubeconfig_of, read_users, write_users
    from kastra.app.certificates import write_private
    from kastra.manifest.encode import to_yaml
    from kastra.sql.owner import read_endpoint

    _check_name(name, ADMIN.name)
    settings = settings_of()
    endpoint = read_endpoint(settings.store)
    if kubeconfig is not None and endpoint is None:
        raise click.UsageError(_NEEDS_SERVER)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = new_token()
    others = [user for user in read_users(settings.data) if user.name != name]
    write_users(settings.data, [*others, NamedUser(name, tuple(dict.fromkeys(groups)), token_hash(token))])
    if kubeconfig is None or endpoint is None:
        click.echo(token)
        say(f"{name} can use this token; it can't be shown again")
    else:
        write_private(kubeconfig, to_yaml(kubeconfig_of(endpoint.url, Path(endpoint.ca), token)).encode())
        say(f"{kubeconfig} lets {name} in; keep it as you would a password")
    return 0


@users.command()
@click.argument("name")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="A group to be in; repeatable.")
@click.option("--duration", default="24h", metavar="TIME", help="How long it is good: 1m to 365d.", show_default=True)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a kubeconfig there instead of NAME.crt and NAME.key; the server must be running.",
)
def certificate(name: str, groups: tuple[str, ...], duration: str, kubeconfig: Path | None) -> int:
    """Make a certificate by which its holder is NAME. It can't be taken back: only its end ends it."""
    from kastra.api.durations import parse_duration
    from kastra.app.access import ADMIN, kubeconfig_of
    from kastra.app.certificates import client_certificate, write_private
    from kastra.clock import SystemClock, rfc3339
    from kastra.manifest.encode import to_yaml
    from kastra.sql.owner import read_endpoint

    _check_name(name, ADMIN.name)
    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        raise click.UsageError(f"--duration: {error}") from None
    if not _SHORTEST <= seconds <= _LONGEST:
        raise click.UsageError(f"--duration {duration}: a certificate is good for 1m to 365d")
    settings = settings_of()
    endpoint = read_endpoint(settings.store)
    if kubeconfig is not None and endpoint is None:
        raise click.UsageError(_NEEDS_SERVER)
    if kubeconfig is None and not _FILE_NAME.fullmatch(name):
        raise click.UsageError(f"{name!r} is no good name of a file: say with --kubeconfig where to write")
    try:
        issued = client_certificate(settings.data, name, groups, seconds, SystemClock())
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if kubeconfig is None or endpoint is None:
        kubeconfig = Path(f"{name}.crt")
        write_private(Path(f"{name}.key"), issued.key)
        write_private(kubeconfig, issued.certificate)
    else:
        write_private(kubeconfig, to_yaml(kubeconfig_of(endpoint.url, Path(endpoint.ca), issued)).encode())
    say(f"{kubeconfig} lets {name} in until {rfc3339(issued.ends)}; keep its key as you would a password")
    return 0


def _check_name(name: str, administrator: str) -> None:
    """Raises UsageError for a name that nobody can be given."""
    if name == administrator or name.startswith("system:") or not name.isprintable() or not name.strip():
        raise click.UsageError(f"{name!r} can't be a user's name: it is empty, unprintable or one of the server's own")


@users.command("list")
def list_() -> int:
    """Print the users and their groups; tokens aren't kept, so none is shown."""
    from kastra.app.access import read_users

    rows = [(user.name, ",".join(user.groups)) for user in sorted(read_users(settings_of().data))]
    click.echo("\n".join(aligned([("NAME", "GROUPS"), *rows])) if rows else "No users found.")
    return 0


@users.command()
@click.argument("name")
def remove(name: str) -> int:
    """End NAME's token."""
    from kastra.app.access import ADMIN, read_users, write_users

    if name == ADMIN.name:
        raise click.UsageError(
            "the administrator's token is ended by deleting the kubeconfig and starting the server anew"
        )
    data = settings_of().data
    present = read_users(data)
    kept = [user for user in present if user.name != name]
    if len(kept) == len(present):
        raise click.ClickException(f'user "{name}" not found')
    write_users(data, kept)
    click.echo(f"user/{name} removed")
    return 0
