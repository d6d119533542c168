"""What was done for an object so far? A `Record`: which Run was made for it last, for which spec, and how that ended.

It stands in an annotation of the object. Runs can be deleted, by a limit of their Workflow or by people, and the schema of
the object's kind may keep nothing in its status but what it names; without the record either would start work, and what it
costs, again. It is written before a Run is created. A copy of the object is another object, so the uid is part of it.

Read next: `kastra.runtime.declared.runs`, its only writer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import orjson

from kastra.api.meta import GROUP
from kastra.api.object import Object

ANNOTATION = f"{GROUP}/reconciliation"
GONE = "Gone"
"""Phase of a Run that was deleted before it was seen to end."""


@dataclass(frozen=True, slots=True)
class Record:
    """The last Run of an object.

    Args:
        uid: of the object.
        generation: of the object's spec that it was made for.
        body: digest of what the Reconciler ran.
        number: of the Run; the first is 1.
        failures: in a row, for this generation and body.
        started: time of the decision to make it, RFC 3339.
        ended: when it ended; empty while it hasn't.
        phase: how it ended: Succeeded, Failed, Cancelled or Gone.
        succeeded: whether any Run for this generation and body did.
    """

    uid: str
    generation: int
    body: str
    number: int
    started: str
    failures: int = 0
    ended: str = ""
    phase: str = ""
    succeeded: bool = False

    @classmethod
    def of(cls, obj: Object) -> Self | None:
        """The record on an object; None if there is none, or none that makes sense for it."""
        text = obj.annotations.get(ANNOTATION)
        if not text:
            return None
        try:
            data = orjson.loads(text)
            found = cls(**data) if isinstance(data, dict) else None
        except (ValueError, TypeError):
            return None
        return found if found is not None and found.uid == obj.uid and found._has_right_types() else None

    def _has_right_types(self) -> bool:
        # An annotation may be written by anybody who may write the object.
        return all(isinstance(value, _TYPES[name]) for name, value in asdict(self).items()) and self.number > 0

    def annotation(self) -> Mapping[str, str]:
        """As it is written."""
        return {ANNOTATION: orjson.dumps(asdict(self)).decode()}

    def after(self, phase: str, ended: str) -> "Record":
        """The record once its Run has ended."""
        done = phase == "Succeeded"
        failures = 0 if done else self.failures + 1
        return replace(self, phase=phase, ended=ended, failures=failures, succeeded=done or self.succeeded)


_TYPES: Mapping[str, Any] = {
    "uid": str, "generation": int, "body": str, "number": int, "started": str, "failures": int, "ended": str,
    "phase": str, "succeeded": bool,
}  # fmt: skip
