"""Which checkpoints of a thread does nobody need any more, when only the latest of each namespace is to stay?

A delta channel's value isn't stored with every checkpoint: it is the nearest stored one before, and what was written since.
So what lies between is kept too; dropped, the channel would read as empty, without an error. Which channels are of that
kind LangGraph notes in the metadata. Source: BaseCheckpointSaver.prune. Read next: `kastra.langgraph.saver`.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import orjson
from langgraph.checkpoint.serde.base import SerializerProtocol

from kastra.sql.driver import Row

_DELTA = "counters_since_delta_snapshot"


def outdated(rows: Sequence[Row], stored: AbstractSet[Row], serde: SerializerProtocol) -> list[int]:
    """The row numbers of the checkpoints that can go.

    Args:
        rows: of one thread, as `statements.CHAIN` gives them, oldest first.
        stored: (namespace, channel, version) of every value that is stored.
        serde: that wrote the metadata.
    """
    by_address = {(row[1], row[2]): row for row in rows}
    latest = {row[1]: row for row in rows}
    kept = set()
    for namespace, head in latest.items():
        kept.add(head[0])
        metadata: dict[str, Any] = serde.loads_typed((head[4], head[5]))
        wanted = set(metadata.get(_DELTA) or ())
        row: Row | None = head
        while row is not None:
            kept.add(row[0])
            versions = orjson.loads(row[6])
            wanted = {name for name in wanted if (namespace, name, versions.get(name)) not in stored}
            if not wanted:
                break
            row = by_address.get((namespace, row[3]))
    return [row[0] for row in rows if row[0] not in kept]
