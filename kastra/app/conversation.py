"""What did a Run add to a conversation? Its messages, read from its journal, to be given to the next Run.

Read through the subresource `history`, so by the same permission as `kastra history`. Where the journal doesn't have all of a
turn (a call of a tool that there isn't, an answer of an agent called as a tool), the question and the answer stand for the
whole: a result whose call is missing, or a call without a result, would be refused by providers. Read next:
`kastra.cli.chat`.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from kastra.api.meta import ObjectRef
from kastra.client.interface import Client


async def messages_of(client: Client, run: ObjectRef, output: Any) -> list[dict[str, Any]]:
    """The messages that a Run of an agent added to the conversation that it was given; the last is its answer.

    Args:
        output: of the Run.
    """
    turns: dict[int, Mapping[str, Any]] = {}
    results: dict[str, Any] = {}
    async for record in client.connect(run, "history"):
        key, body = record.get("stepKey") or "", record.get("body") or {}
        if record.get("type") == "ModelTurn" and (number := _turn(key)) is not None:
            turns[number] = body.get("output") or {}
        elif record.get("type") == "ToolResult" and "output" in body:
            outcome = body["output"]
            wrapped = isinstance(outcome, Mapping) and ("result" in outcome or "error" in outcome)
            results[key] = (
                (outcome["result"] if "result" in outcome else {"error": outcome["error"]}) if wrapped else outcome
            )
    found: list[dict[str, Any]] = []
    for number in sorted(turns):
        calls = turns[number].get("toolCalls") or []
        if not calls:
            continue
        found.append({"role": "assistant", "content": turns[number].get("text") or "", "toolCalls": calls})
        for index, call in enumerate(calls):
            key = f"turn[{number}]/tool[{index}]"
            if key not in results or "invalid" in call:
                return [_answer(output)]
            found.append({"role": "tool", "toolCallId": call["id"], "name": call["name"], "result": results[key]})
    return [*found, _answer(output)]


def _answer(output: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": output if isinstance(output, str) else orjson.dumps(output).decode()}


def _turn(key: str) -> int | None:
    number = key[len("turn[") : -1]
    return int(number) if key.startswith("turn[") and key.endswith("]") and number.isdigit() else None
