"""Values that every part shares: references and the closure of a Run. Plain data, no behaviour.

Read next: `kastra.runtime.references`, which resolves the first and builds the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference as it stands in an object.

    Args:
        path: where it stands, such as `spec.tools[0].toolRef`.
        kind: the kind it means unless the text says otherwise (`agents/x`).
        name: as written: `x`, `n/x`, `agents/x`, `n.x`.
        namespace: where given explicitly (`{name, namespace}`); empty otherwise.
        optional: whether the object can be Ready without it.
    """

    path: str
    kind: str
    name: str
    namespace: str = ""
    optional: bool = False


class ClosureObject(TypedDict):
    """One object of a closure: its normalised spec, and where its references lead."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    spec: Mapping[str, Any]
    """`View.spec.plain()`: normalised, camelCase."""
    refs: Mapping[str, str]
    """From the path of a reference (`spec.tools[0].toolRef`) to the id of an object in the same closure."""


class Closure(TypedDict):
    """Everything a Run resolved when it started; journaled whole, so that later edits don't touch the Run (J6).

    Ids are `Kind/namespace/name`. Holds references to Secrets, never their values.
    """

    root: str
    objects: dict[str, ClosureObject]
    hash: NotRequired[str]
    """`sha256:` over the rest; what `spec.revision` and `status.revision` show."""


def closure_id(kind: str, namespace: str, name: str) -> str:
    """The id of an object in a closure."""
    return f"{kind}/{namespace}/{name}"
