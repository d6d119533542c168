"""The base of typed views: how a controller reads an object of its kind.

A view parses an object's many accepted shapes into one normal form. It is frozen and ignores what it doesn't know; the
CRD in `crds/` stays the schema (a contract test holds both equal). Nothing else in `kastra.runtime` imports pydantic, so
that the command line can import the runtime cheaply.

Read next: `controllers/agent.py`, a full example.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kastra.api.meta import GROUP, VERSION
from kastra.api.object import Object


class Fields(BaseModel):
    """A part of a view: camelCase in YAML, snake_case in Python, immutable, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", arbitrary_types_allowed=True
    )

    def plain(self) -> dict[str, Any]:
        """As JSON-like data by alias, without what was not set: what the execution half is handed."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Metadata(Fields):
    """The part of ObjectMeta that controllers read."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class View(Fields):
    """An object of one kind, read.

    `class AgentView(View, kind="Agent")` declares it; subclasses add `spec` and, where read, `status`.
    """

    api_kind: ClassVar[str] = ""
    api_group: ClassVar[str] = GROUP
    api_version: ClassVar[str] = VERSION

    metadata: Metadata = Field(default_factory=Metadata)

    def __init_subclass__(cls, kind: str = "", group: str = GROUP, version: str = VERSION, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind:
            cls.api_kind, cls.api_group, cls.api_version = kind, group, version

    @classmethod
    def of(cls, obj: Object | Mapping[str, Any]) -> Self:
        """The view of an object.

        Raises:
            pydantic.ValidationError: a union has none of its accepted shapes.
        """
        return cls.model_validate(obj.data if isinstance(obj, Object) else obj)
