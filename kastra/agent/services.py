"""What agents, tools and networks are made and run with: everything of the outside world, injected by `kastra.app`.

Read next: `kastra.agent.runners`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kastra.clock import Clock
from kastra.engine.step import StepRunner
from kastra.memory.interface import ThreadDirectory
from kastra.memory.recall import Recall
from kastra.model.cassette import Cassettes
from kastra.model.interface import ModelServices
from kastra.model.limits import Limiters
from kastra.netguard import Guard
from kastra.telemetry import Metrics
from kastra.tool.interface import ToolServices
from kastra.tool.mcp.connections import Connections
from kastra.tool.platform import Platform

from .doubles import Doubles
from .knowledge_sources import ConfigMaps
from .model_versions import ModelVersions
from .processors.caching import Responses
from .state import StateReader
from .titles import Titles


class SecretSource(Protocol):
    """Reads the values that specs refer to."""

    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        """The value of `{secretKeyRef}`, `{configMapKeyRef}`, `{env}` or `{file}`, for an object in `namespace`.

        An optional one that isn't there is an empty text.

        Raises:
            LookupError: it isn't there; the message names what is missing and never a value.
        """
        ...


@dataclass(frozen=True, slots=True)
class AgentServices:
    """What the execution of agents, tools and networks needs.

    Args:
        guard: for outbound HTTP.
        clock: for deadlines and retries.
        secrets: reads Secrets, ConfigMaps, variables and files.
        folder: the project's, where processes start and Python entry points are also looked for; None for neither.
        private: folders that the built-in tools never enter: the server's own data.
        state: reads network state that earlier Runs left; None where nothing is kept.
        children: by kind (`Workflow`, `Network`), what performs such an object as a Run of its own; empty where there is
            no control half.
        mcp: connections to MCP servers; None where none are made.
        doubles: stand in for tools and models in tests; None everywhere else.
        cassettes: of models that are recorded or replayed.
        limiters: of providers and models, shared by all who call them.
        memory: threads and what is found in them; None where nothing is remembered.
        threads: finds and makes threads by name; None where nothing is remembered.
        titles: makes titles of threads; None where none are made.
        platform: what built-in tools may ask of Kastra itself; None where there is nothing to ask.
        config_maps: reads whole ConfigMaps; None where there are none.
        metrics: of the process; None where nothing is counted.
    """

    guard: Guard
    clock: Clock
    secrets: SecretSource
    folder: Path | None = None
    private: tuple[Path, ...] = ()
    state: StateReader | None = None
    children: Mapping[str, StepRunner] = field(default_factory=dict)
    mcp: Connections | None = None
    doubles: Doubles | None = None
    cassettes: Cassettes = field(default_factory=lambda: Cassettes(None))
    limiters: Limiters = field(init=False)
    responses: Responses = field(init=False)
    models: ModelVersions = field(init=False, default_factory=ModelVersions)
    memory: Recall | None = None
    threads: ThreadDirectory | None = None
    titles: Titles | None = None
    platform: Platform | None = None
    config_maps: ConfigMaps | None = None
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "limiters", Limiters(self.clock))
        object.__setattr__(self, "responses", Responses(self.clock))

    def for_models(self) -> ModelServices:
        """What models are made with."""
        return ModelServices(self.guard, self.clock)

    def for_tools(self, namespace: str) -> ToolServices:
        """What the tools of a namespace are made with."""

        async def read(value_from: Mapping[str, Any]) -> str:
            return await self.secrets.read(value_from, namespace)

        return ToolServices(self.guard, self.clock, read, self.folder, self.private, namespace, self.platform)
