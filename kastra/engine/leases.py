"""Which process may append to which Run: the process lease, and the rows of `runs` that refer to it.

A process renews one row of `leases`; the Runs that it holds carry its name and an epoch, and are its own for as long as
that row is renewed. Taking over a Run raises its epoch by one, conditional on what was read before: of two that try, one
fails, and the former holder's next append fails too. Statements only; they commit with the records that go with them.

Source: Kubernetes' coordination leases; fencing tokens. Read next: `kastra.engine.pool`.
"""

from kastra.sql.interface import Statement

from .history import RunRow


def renewal(holder: str, expires_at: int) -> Statement:
    """The process `holder` is alive until `expires_at` (milliseconds)."""
    sql = (
        "INSERT INTO leases(name, holder, epoch, expires_at) VALUES (?, ?, 1, ?) "
        "ON CONFLICT(name) DO UPDATE SET expires_at = excluded.expires_at"
    )
    return Statement(sql, (f"engine/{holder}", holder, expires_at))


def resignation(holder: str) -> Statement:
    """The process `holder` has stopped; its Runs can be taken at once."""
    return Statement("DELETE FROM leases WHERE name = ?", (f"engine/{holder}",))


def first_lease(
    run: int,
    uid: str,
    kind: str,
    target_uid: str,
    generation: int,
    spec_hash: str,
    last_seq: int,
    holder: str,
    now: int,
) -> Statement:
    """A Run that nobody has begun: its row, held by `holder` under epoch 1. Fails if the Run has been begun."""
    sql = (
        "INSERT INTO runs(id, uid, target_kind, target_uid, target_generation, spec_hash, phase, last_seq, wake_at, "
        "lease_holder, lease_epoch, created, updated) VALUES (?, ?, ?, ?, ?, ?, 'Running', ?, NULL, ?, 1, ?, ?) "
        "ON CONFLICT(uid) DO NOTHING"
    )
    return Statement(sql, (run, uid, kind, target_uid, generation, spec_hash, last_seq, holder, now, now), 1)


def takeover(row: RunRow, holder: str, last_seq: int, now: int) -> Statement:
    """The Run of `row` under the next epoch, unless it was taken or appended to since the row was read."""
    sql = (
        "UPDATE runs SET lease_holder = ?, lease_epoch = ?, last_seq = ?, phase = 'Running', updated = ? "
        "WHERE id = ? AND lease_epoch = ? AND last_seq = ?"
    )
    return Statement(sql, (holder, row.epoch + 1, last_seq, now, row.id, row.epoch, row.last_seq), 1)
