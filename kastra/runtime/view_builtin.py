"""How a manifest names a tool of the built-in toolkit: by its name, or with settings beside it.

Which names and settings there are is the toolkit's to say (`kastra.tool.toolkit.catalogue`), which controllers ask.

Read next: `kastra.runtime.view_bindings`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from .view_types import Closed


class BuiltinUse(Closed):
    """`files.read`, or `{name: files.read, folder: notes}`; for an Agent also a group, such as `files`."""

    name: StrictStr = Field(min_length=1)
    folder: StrictStr | None = Field(default=None, min_length=1)
    max_bytes: StrictInt | None = Field(default=None, ge=1)
    hosts: list[StrictStr] | None = None
    allow_private: StrictBool | None = None
    programs: list[StrictStr] | None = None
    workflows: list[StrictStr] | None = None
    types: list[StrictStr] | None = None
    bases: list[StrictStr] | None = None
    scope: Literal["thread", "resource"] | None = None
    read_only: StrictBool | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @property
    def settings(self) -> Mapping[str, Any]:
        """What is given beside the name."""
        return {key: value for key, value in self.plain().items() if key != "name"}
