"""What can go wrong in the database, told apart by what one does about it.

    SqlError                anything else: a defect in a statement
    |- UniqueViolation      a row with that key exists; only the operation concerned fails
    |- ConstraintViolation  NOT NULL, CHECK, type of a STRICT column; likewise
    |- Busy                 another connection holds the lock; trying again makes sense
    '- StorageFault         the file can't be written (or read) now; the writer goes read-only until it can again
       |- DiskFull          no space, or over a quota
       |- IoFault           the disk or the file system refuses
       |- ReadOnly          no permission to write, or opened for reading
       '- Corrupt           not a database, or a damaged one: see `kastra doctor`

Drivers raise nothing else. One of them knows only texts, so the texts of SQLite are what all are told apart by.
Read next: `kastra.sql.driver`.
"""


class SqlError(Exception):
    """A statement failed."""


class UniqueViolation(SqlError):
    """A row with that key exists."""


class ConstraintViolation(SqlError):
    """A value breaks a rule of its column."""


class Busy(SqlError):
    """Another connection holds the lock."""


class StorageFault(SqlError):
    """The file can't be used now."""


class DiskFull(StorageFault):
    """There is no space left."""


class IoFault(StorageFault):
    """Reading or writing the file failed."""


class ReadOnly(StorageFault):
    """The file may not be written."""


class Corrupt(StorageFault):
    """The file is not a database or is damaged."""


_BY_TEXT: tuple[tuple[str, type[SqlError]], ...] = (
    ("unique constraint failed", UniqueViolation),
    ("primary key must be unique", UniqueViolation),
    ("constraint failed", ConstraintViolation),
    ("cannot store", ConstraintViolation),
    ("database is locked", Busy),
    ("table is locked", Busy),
    ("locking protocol", Busy),
    ("disk is full", DiskFull),
    ("readonly database", ReadOnly),
    ("read-only", ReadOnly),
    ("disk i/o error", IoFault),
    ("ioerror", IoFault),
    ("unable to open", IoFault),
    ("failed to connect", IoFault),
    ("disk image is malformed", Corrupt),
    ("not a database", Corrupt),
)


def classify(message: str) -> SqlError:
    """The error that SQLite means by `message`, which it keeps."""
    text = message.lower()
    for part, error in _BY_TEXT:
        if part in text:
            return error(message)
    return SqlError(message)
