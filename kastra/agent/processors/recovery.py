"""A model call failed: is it made again, and how? The processors of errors.

    stream-error-retry       asks again what may pass: a cut stream, an overloaded provider, a limit of rate
    prefill-error-handler    a provider refuses a conversation that ends with the assistant: the user says "continue"
    provider-history-compat  a provider refuses what another one left in the history: its ids of calls, its thoughts

All of it happens within the effect of the call, after the model's own retries and fallbacks have been used up: what is
journaled is the answer, or the last error. Each looks at an error in its order; the first that knows what to do does it.
Pauses that a provider named are kept.

Read next: `kastra.agent.processors.asking`, the caller.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

from kastra.clock import Clock
from kastra.model.chain import ModelEntry, answers
from kastra.model.interface import End, Message, ModelError, ModelRequest, ModelStream, Restart, ToolCall
from kastra.model.limits import LONGEST_WAIT

from .settings import Wrong, flag, whole

_MOST = 10
"""Times that one processor may have a call made again."""
_PREFILL = re.compile(r"prefill|must end with a user message|last message must|final message", re.IGNORECASE)
_IDS = re.compile(r"tool[_ ]?(?:use|call)[\w. \[\]]*id|string should match pattern|\^\[a-zA-Z0-9_-\]", re.IGNORECASE)
_THOUGHTS = re.compile(r"reasoning|thinking|thought|signature", re.IGNORECASE)
_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Again:
    """The call is made again: with this request, after so many seconds."""

    request: ModelRequest
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class ErrorProcessor:
    """What may be done about an error.

    Args:
        id: see above.
        most: times that it may have one call made again.
        delay: seconds before it is.
        everything: whether errors that don't pass by themselves are tried again, too.
    """

    id: str
    most: int = 1
    delay: float = 0.0
    everything: bool = False

    def again(self, error: ModelError, request: ModelRequest, done: int) -> Again | None:
        """How the call is made again; None if this one knows nothing that would help.

        Args:
            done: times that it had this call made again before.
        """
        if done >= self.most:
            return None
        if self.id == "stream-error-retry":
            wait = max(self.delay, error.retry_after or 0.0)
            return Again(request, wait) if (error.retryable or self.everything) and wait <= LONGEST_WAIT else None
        if error.kind != "invalid_request":
            return None
        if self.id == "prefill-error-handler":
            return Again(_continued(request)) if _PREFILL.search(error.message) else None
        changed = request
        if _IDS.search(error.message):
            changed = _renamed(changed)
        if _THOUGHTS.search(error.message):
            changed = _thoughtless(changed)
        return None if changed is request else Again(changed)


SETTINGS: Mapping[str, frozenset[str]] = {
    "stream-error-retry": frozenset({"maxRetries", "delayMs", "retryAllErrors"}),
    "prefill-error-handler": frozenset(),
    "provider-history-compat": frozenset(),
}


def error_processor(id_: str, config: Mapping[str, Any]) -> ErrorProcessor:
    """From its settings. Raises Wrong."""
    if id_ != "stream-error-retry":
        return ErrorProcessor(id_)
    most, delay = whole(config, "maxRetries", 1), whole(config, "delayMs", 0, least=0)
    if most > _MOST:
        raise Wrong(".maxRetries", f"must be {_MOST} at most")
    if delay > LONGEST_WAIT * 1000:
        raise Wrong(".delayMs", f"must be {LONGEST_WAIT * 1000:g} at most")
    return ErrorProcessor(id_, most, delay / 1000, flag(config, "retryAllErrors"))


async def recovered(
    processors: Sequence[ErrorProcessor],
    entries: Sequence[ModelEntry],
    request: ModelRequest,
    clock: Clock,
    seed: str,
) -> ModelStream:
    """As `kastra.model.chain.answers`, made again where one of `processors` says how.

    Raises:
        ModelError: none of the models answers, and no processor knows more.
    """
    done = dict.fromkeys(range(len(processors)), 0)
    shown = False
    while True:
        try:
            async with aclosing(answers(entries, request, clock, seed)) as chunks:
                async for chunk in chunks:
                    shown = not isinstance(chunk, Restart)
                    yield chunk
                    if isinstance(chunk, End):
                        return
            raise ModelError("malformed", "the stream ended without a response")
        except ModelError as error:
            failure = error
        again = None
        for index, each in enumerate(processors):
            again = each.again(failure, request, done[index])
            if again is not None:
                done[index] += 1
                break
        if again is None:
            raise failure
        if shown:
            yield Restart(failure.message)
            shown = False
        if again.wait:
            await clock.sleep(again.wait)
        request = again.request


def _continued(request: ModelRequest) -> ModelRequest:
    said: Message = {"role": "user", "content": "continue"}
    return replace(request, messages=[*request.messages, said])


def _renamed(request: ModelRequest) -> ModelRequest:
    """With ids of calls that any provider takes; two that differed still do."""
    names: dict[str, str] = {}

    def name(id_: str) -> str:
        if id_ not in names:
            made = _NO_ID.sub("_", id_) or "call"
            while made in names.values():
                made += "_"
            names[id_] = made
        return names[id_]

    messages: list[Message] = []
    for message in request.messages:
        made: Message = {**message}
        if calls := message.get("toolCalls"):
            made["toolCalls"] = [cast(ToolCall, {**call, "id": name(call["id"])}) for call in calls]
        if "toolCallId" in message:
            made["toolCallId"] = name(message["toolCallId"])
        messages.append(made)
    if all(old == new for old, new in names.items()):
        return request
    return replace(request, messages=messages)


def _thoughtless(request: ModelRequest) -> ModelRequest:
    if not any(message.get("reasoning") for message in request.messages):
        return request
    messages: list[Message] = []
    for message in request.messages:
        made: Message = {**message}
        made.pop("reasoning", None)
        messages.append(made)
    return replace(request, messages=messages)
