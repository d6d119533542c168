"""Whether an agent calls tools, as an Agent says it, and a Run for itself: one of three words, or the one tool to call.

Read next: `controllers/agent.py`, `controllers/run.py`.
"""

from typing import Annotated, Literal

from pydantic import Field, StrictStr

from .view_types import Closed
from .view_unions import either


class ForcedTool(Closed):
    """The one tool to call."""

    tool: StrictStr = Field(min_length=1)


ToolChoice = Annotated[
    Literal["auto", "none", "required"] | ForcedTool, either("auto, none, required or {tool: NAME of one of its tools}")
]
