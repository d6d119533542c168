"""The base of typed views: how a controller reads an object of its kind.

A view parses an object's many accepted shapes into one normal form. It is frozen and ignores what it doesn't know; the
CRD in `crds/` stays the schema (a contract test holds both equal). Nothing else in `kastra.runtime` imports pydantic, so
that the command line can import the runtime cheaply.

Read next: `controllers/agent.py`, a full example.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kastra.api.meta import GROUP, VERSION, find_condition
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


class Condition(Fields):
    """One condition of an object's status."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""

    @property
    def is_true(self) -> bool:
        """Whether it holds."""
        return self.status == "True"


class View(Fields):
    """An object of one kind, read.

    `class AgentView(View, kind="Agent")` declares it; subclasses add `spec` and, where read, `status`. A status that nobody
    has written yet is read as an empty one.
    """

    api_kind: ClassVar[str] = ""
    api_group: ClassVar[str] = GROUP
    api_version: ClassVar[str] = VERSION

    metadata: Metadata = Field(default_factory=Metadata)
    # On each view that has some; not a private attribute, which pydantic would set up anew on every view there is.
    _conditions: ClassVar[Sequence[Mapping[str, Any]]] = ()
    _reads_status: ClassVar[bool] = False

    def __init_subclass__(cls, kind: str = "", group: str = GROUP, version: str = VERSION, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind:
            cls.api_kind, cls.api_group, cls.api_version = kind, group, version

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._reads_status = "status" in cls.model_fields

    @classmethod
    def of(cls, obj: Object | Mapping[str, Any]) -> Self:
        """The view of an object.

        Raises:
            pydantic.ValidationError: a union has none of its accepted shapes.
        """
        data = obj.data if isinstance(obj, Object) else obj
        status = data.get("status")
        if status is None and cls._reads_status:
            data = {**data, "status": {}}
        view = cls.model_validate(data)
        if status and isinstance(status, Mapping) and status.get("conditions"):
            vars(view)["_conditions"] = status["conditions"]
        return view

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type as it stood in the object, or None."""
        found = find_condition(self._conditions, type_)
        return Condition.model_validate(found) if found is not None else None
