"""In what does one kind differ from all others? The registry asks its strategy.

The defaults are those of custom resources. A strategy sees plain objects that it may change in the `prepare` steps and
in `begin_deletion`, and nowhere else; it never writes to storage itself, except through what it was built with (the
CustomResourceDefinition strategy makes kinds live after a commit).

Source: RESTCreateStrategy, RESTUpdateStrategy and RESTDeleteStrategy of apiserver/pkg/registry/rest.
Read next: `kastra.apiserver.core`, the built-in kinds' strategies.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kastra.api.errors import Cause
from kastra.api.object import Object


class Strategy:
    """What custom resources do; kinds override what they do differently."""

    unconditional_update = False
    """Whether PUT without a resourceVersion replaces whatever is there (most built-in kinds) or is refused."""
    status_writes_metadata = False
    """Whether a write to the status subresource may also change labels and annotations."""
    keeps_history = False
    """Whether the specs of past generations are kept."""

    def check_create(self) -> None:
        """Raises a StatusError while no objects of this kind can be created."""

    def check_delete(self, name: str) -> None:
        """Raises a StatusError for an object that must not be deleted."""

    def prepare_create(self, obj: dict[str, Any], now: datetime) -> None:
        """Fill and drop fields of a new object that the schema has accepted, before `validate`."""

    def prepare_update(self, obj: dict[str, Any], old: Mapping[str, Any], now: datetime) -> None:
        """Undo changes that an update may not make, fill what it must have; as at creation. Not for subresources."""

    def validate(self, obj: Mapping[str, Any], old: Mapping[str, Any] | None) -> Sequence[Cause]:
        """What the schema can't say; `old` is None at creation."""
        return ()

    def begin_deletion(self, obj: dict[str, Any], now: datetime) -> None:
        """Called once, when deletion of an object begins that may have to wait."""

    def holds(self, obj: Mapping[str, Any]) -> bool:
        """Whether something other than metadata.finalizers keeps a deleted object."""
        return False

    def expires_at(self, now: datetime) -> int | None:
        """When an object written now may be swept, in milliseconds since the epoch; None for never."""
        return None

    def cells(self, obj: Mapping[str, Any]) -> Sequence[Any] | None:
        """The values of the printer columns, for columns that no JSONPath can tell; None to evaluate the JSONPaths.

        Times are left as they stand in the object; the table renders them as ages.
        """
        return None

    async def written(self, new: Object, old: Mapping[str, Any] | None) -> None:
        """Called after a commit and before the caller is answered; `old` is None at creation."""

    async def removed(self, last: Object) -> None:
        """Called after an object is gone and before the caller is answered."""
