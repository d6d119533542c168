"""The test kit: a control plane in memory, in virtual time, for tests of manifests, kinds and controllers.

    pytest_plugins = ["kastra.testing.pytest_plugin"]      # in conftest.py

    async def test_a_source_is_ready(env: ControlPlane) -> None:
        await env.apply("manifests/orders.yaml")
        await env.settle()

Read next: `kastra.testing.control_plane`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import VirtualClock as VirtualClock
    from .control_plane import ApplyFailed as ApplyFailed
    from .control_plane import ControlPlane as ControlPlane
    from .doubles import TestDoubles as TestDoubles
    from .doubles import ToolCall as ToolCall
    from .faults import Faults as Faults
    from .rehearsal import Delivery as Delivery
    from .rehearsal import Outcome as Outcome
    from .rehearsal import Undelivered as Undelivered

_EXPORTS = {
    "ApplyFailed": "kastra.testing.control_plane",
    "ControlPlane": "kastra.testing.control_plane",
    "Delivery": "kastra.testing.rehearsal",
    "Faults": "kastra.testing.faults",
    "Outcome": "kastra.testing.rehearsal",
    "TestDoubles": "kastra.testing.doubles",
    "ToolCall": "kastra.testing.doubles",
    "Undelivered": "kastra.testing.rehearsal",
    "VirtualClock": "kastra.testing.clock",
}

__all__ = sorted(_EXPORTS)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    # On demand, since the clock is wanted where the whole control plane isn't.
    if name in _EXPORTS:
        from importlib import import_module

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
