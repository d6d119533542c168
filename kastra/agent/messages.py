"""How does an agent's input become a conversation, and what is in one? Plain data, no calls.

A text is the user's message. An object with `messages` is a conversation and taken as it is, once it has been checked. Any
other value becomes compact JSON. Instructions come first, as the system's message.

Read next: `kastra.agent.loop`, which carries the conversation on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kastra.engine.step import StepError
from kastra.model.interface import Message, ModelResponse, ToolCall, compact
from kastra.model.parts import parts_of

_ROLES = ("system", "user", "assistant", "tool")


def conversation(instructions: str, value: Any) -> list[Message]:
    """The messages to begin with.

    Args:
        instructions: the system's message; empty for none.
        value: text, `{messages: [...]}`, or any JSON value; None for no message of a user.

    Raises:
        StepError: a given message has not the shape of one (type `validation`).
    """
    messages: list[Message] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(value, Mapping) and "messages" in value:
        given = value["messages"]
        if isinstance(given, str):
            given = [given]
        if not isinstance(given, Sequence) or not given:
            raise _wrong("input.messages", "must be a list of at least one message")
        messages += [_message(message, f"input.messages[{index}]") for index, message in enumerate(given)]
    elif value is not None:
        messages.append({"role": "user", "content": value if isinstance(value, str) else compact(value)})
    return messages


def _wrong(path: str, what: str) -> StepError:
    return StepError("validation", f"{path}: {what}", retryable=False)


def _message(given: Any, path: str) -> Message:
    if isinstance(given, str):
        return {"role": "user", "content": given}
    if not isinstance(given, Mapping):
        raise _wrong(path, "must be a text or {role, content}")
    role = given.get("role")
    if role not in _ROLES:
        raise _wrong(f"{path}.role", f"must be one of {', '.join(_ROLES)}")
    message: Message = {"role": role}
    if role == "tool":
        call = given.get("toolCallId")
        if not isinstance(call, str):
            raise _wrong(f"{path}.toolCallId", "must say which call this is the result of")
        message["toolCallId"], message["name"] = call, str(given.get("name") or "")
        message["result"] = given["result"] if "result" in given else _text(given.get("content"), f"{path}.content")
        return message
    calls = given.get("toolCalls")
    if calls and role == "assistant":
        message["toolCalls"] = [_call(call, f"{path}.toolCalls[{index}]") for index, call in enumerate(calls)]
    message["content"] = ""
    if given.get("content") or not calls:
        try:
            message["content"], parts = parts_of(given.get("content"), f"{path}.content")
        except ValueError as error:
            where, _, what = str(error).partition(": ")
            raise _wrong(where, what) from None
        if parts and role != "user":
            raise _wrong(f"{path}.content", "only a user's message may hold images and files")
        if parts:
            message["parts"] = parts
    if given.get("cache") is True:
        message["cache"] = True
    return message


def _call(given: Any, path: str) -> ToolCall:
    if not isinstance(given, Mapping) or not isinstance(given.get("id"), str) or not isinstance(given.get("name"), str):
        raise _wrong(path, "must be {id, name, arguments}")
    arguments = given.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        raise _wrong(f"{path}.arguments", "must be an object")
    return {"id": given["id"], "name": given["name"], "arguments": dict(arguments)}


def _text(content: Any, path: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if texts and len(texts) == len(parts):
            return "".join(texts)
    raise _wrong(path, "must be text, or a list of parts {type: text, text}")


def assistant(response: ModelResponse) -> Message:
    """A model's response as a message."""
    message: Message = {"role": "assistant", "content": response.text}
    if response.tool_calls:
        message["toolCalls"] = list(response.tool_calls)
    if response.reasoning:
        # Some providers insist on seeing what led to a call when they are given its result.
        message["reasoning"] = list(response.reasoning)
    return message


def tool_result(call: ToolCall, result: Any) -> Message:
    """What a tool gave, as a message."""
    return {"role": "tool", "toolCallId": call["id"], "name": call["name"], "result": result}


def summed(total: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    """Both usages together: tokens, calls and dollars by name."""
    return {key: total.get(key, 0) + (more.get(key) or 0) for key in sorted({*total, *more})}
