"""`kastra backup` and `kastra restore`: the store as one file, and back. Read next: `kastra.sql.backup`."""

from pathlib import Path

import click

from .session import say, settings_of


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> int:
    """Copy the store, consistently, while it is in use.

    Writes FILE and FILE.json, which says what it holds. Values of Secrets stay encrypted: keep the key file as well.
    """
    from kastra.sql.backup import backup as copy

    settings = settings_of()
    if not settings.store.is_file():
        raise ValueError(f"there is no store at {settings.store}")
    manifest = copy(settings.store, file, driver=settings.driver or None)
    click.echo(f"{file}: {manifest.size:,} bytes, revision {manifest.revision}")
    key = settings.data / "secret.key"
    if key.is_file():
        say(f"Secrets in it can only be read with {key}, which is not part of it: keep a copy elsewhere.")
    return 0


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace the store that is there.")
def restore(file: Path, force: bool) -> int:
    """Put a backup in place of the store. Refused while a process uses the store."""
    from kastra.sql.backup import restore as put_back

    settings = settings_of()
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    manifest = put_back(file, settings.store, driver=settings.driver or None, force=force)
    click.echo(f"{settings.store}: restored to revision {manifest.revision} of {manifest.created}")
    if not (settings.data / "secret.key").is_file():
        say(f"There is no {settings.data / 'secret.key'}: put back the key too if the backup holds Secrets.")
    return 0
