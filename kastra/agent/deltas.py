"""What do those who follow a Run see of a model's answer as it arrives? Deltas: text, thoughts, arguments of tool calls.

Each is the data of one `step.output.delta`, which is in no journal: what counts is the whole answer.

    {type: text, text}        {type: tool, index, id, name, arguments}
    {type: reasoning, text}   {type: restart, reason}     all of this call that came before is void

Read next: `kastra.app.streaming`, the other end.
"""

from collections.abc import Callable

from kastra.engine.step import Effect
from kastra.model.interface import ModelChunk, ReasoningDelta, Restart, TextDelta, ToolCallDelta


def alive(effect: Effect) -> Callable[[ModelChunk], None]:
    """What only shows, with each chunk, that the call lives."""
    return lambda _: effect.emit({})


def published(effect: Effect) -> Callable[[ModelChunk], None]:
    """What publishes the chunks of an effect's model call."""
    emit = effect.emit

    def watch(chunk: ModelChunk) -> None:
        if isinstance(chunk, TextDelta):
            emit({"type": "text", "text": chunk.text})
        elif isinstance(chunk, ToolCallDelta):
            emit(
                {
                    "type": "tool",
                    "index": chunk.index,
                    "id": chunk.id,
                    "name": chunk.name,
                    "arguments": chunk.arguments,
                }
            )
        elif isinstance(chunk, ReasoningDelta):
            emit({"type": "reasoning", "text": chunk.text})
        elif isinstance(chunk, Restart):
            emit({"type": "restart", "reason": chunk.reason})

    return watch
