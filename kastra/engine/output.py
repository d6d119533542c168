"""What a runner returns when there is more to say than the value: why it stopped, what it consumed.

Read next: `kastra.engine.step`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Output:
    """A step's output with its circumstances; a runner may return it in place of the bare value.

    Args:
        value: the output.
        stop_reason: why an agent or network stopped (Completed, MaxSteps, Budget, Stalled, ...); becomes the Run's own when
            the step is the whole Run.
        usage: what was consumed beyond the model calls that are journaled in this Run, such as a child Run's total.
    """

    value: Any
    stop_reason: str = ""
    usage: Mapping[str, Any] | None = None
