"""Where an Agent's skills are read from, in a manifest: `skills/review`, `{file: skills}`, `{configMap: {name, items}}`.

Read next: `kastra.agent.skills.shelf`, which reads them.
"""

from typing import Any, Self

from pydantic import Field, StrictStr, model_validator

from kastra.api.types import Reference

from .view_types import Closed


class SkillItem(Closed):
    """One key of a ConfigMap, as the file of a skill."""

    key: StrictStr = Field(min_length=1)
    path: StrictStr = Field(min_length=1)


class SkillConfigMap(Closed):
    """A ConfigMap that is one skill: each key a file, or those that are listed at their paths."""

    name: StrictStr = Field(min_length=1)
    items: list[SkillItem] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data


class SkillUse(Closed):
    """Where skills come from; a text is a folder of the project."""

    file: StrictStr | None = Field(default=None, min_length=1)
    config_map: SkillConfigMap | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, data: Any) -> Any:
        return {"file": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.file is None) == (self.config_map is None):
            raise ValueError("needs exactly one of file and configMap")
        return self

    def references(self, path: str) -> list[Reference]:
        """The ConfigMap, for a use that stands at `path`."""
        return [] if self.config_map is None else [Reference(f"{path}.configMap", "ConfigMap", self.config_map.name)]
