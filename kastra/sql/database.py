"""Opening the file as its owner: the writer's connection, at the latest schema, under a new writer epoch.

The epoch fences: every batch of the writer checks that it is still the one taken here, so a process that was believed dead
can't write after another has taken over. Whoever calls this holds the lock of `kastra.sql.owner`, unless the database is
in memory. Read next: `kastra.sql.migrations`, `kastra.sql.writer`.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path

from .driver import APPLICATION_IDS, MEMORY, Driver, WriterConnection, choose, open_writer, reserve_log
from .migrations import migrate


@dataclass(frozen=True, slots=True)
class Database:
    """A database open for writing.

    Args:
        connection: the only one of this process that may write.
        driver: that opened it.
        path: of the file; `:memory:` for none.
        epoch: under which the writer writes.
        instance: uid of this database's history; a restored backup has another.
        copy: made before the schema was changed, if it was.
    """

    connection: WriterConnection
    driver: Driver
    path: str
    epoch: int
    instance: str
    copy: Path | None = None


def open_database(path: str | Path, driver: str | Driver | None = None, *, reserve: bool = False) -> Database:
    """Open a file for writing, making it if there is none.

    Args:
        path: of the file, or `:memory:`.
        driver: see `kastra.sql.driver.choose`.
        reserve: pre-allocate the log; worth its 10 ms for a process that stays.

    Raises:
        SqlError: as `open_writer` and `migrate`.
    """
    chosen = choose(path, driver)
    connection = open_writer(path, chosen)
    try:
        copy = migrate(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("UPDATE meta SET i = i + 1 WHERE k = 'writer_epoch'")
            connection.execute(
                "INSERT INTO meta(k, t) VALUES ('instance', ?) ON CONFLICT(k) DO NOTHING", (str(uuid.uuid4()),)
            )
            connection.execute(
                "INSERT INTO meta(k, t) VALUES ('driver', ?) ON CONFLICT(k) DO UPDATE SET t = excluded.t",
                (chosen.name,),
            )
            ((epoch,),) = connection.query("SELECT i FROM meta WHERE k = 'writer_epoch'")
            ((instance,),) = connection.query("SELECT t FROM meta WHERE k = 'instance'")
            ((recorded,),) = connection.query("PRAGMA application_id")
            number = APPLICATION_IDS.get(chosen.name, recorded)
            if number != recorded:
                connection.query(f"PRAGMA application_id={number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        if number != recorded:
            # The header is read without SQLite, so it must be in the file, not in the log.
            connection.query("PRAGMA wal_checkpoint(PASSIVE)")
        if reserve and str(path) != MEMORY:
            reserve_log(path)
    except BaseException:
        connection.close()
        raise
    return Database(connection, chosen, str(path), int(epoch), str(instance), copy)
