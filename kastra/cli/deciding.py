"""Deciding in the middle of a chat: an Approval is shown, asked about, and answered as `kastra approve` does it.

Somebody else may decide meanwhile, or time may be up: then nobody is asked any longer. Read next: `kastra.cli.approve`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import orjson

from kastra.api.errors import StatusError
from kastra.api.meta import ObjectRef
from kastra.api.object import Object
from kastra.app.running import wait_until
from kastra.client.interface import Client, PatchType

from .chat_input import ChatInput, Interrupted
from .layout import one_line
from .session import say

_HELP = "y approves, n refuses, e approves with other arguments"


class Deciding:
    """Asks whoever chats.

    Args:
        client: where the Approvals are.
        source: who is asked.
    """

    def __init__(self, client: Client, namespace: str, source: ChatInput) -> None:
        self._client = client
        self._namespace = namespace
        self._source = source
        self._draft = ""

    async def decide(self, name: str) -> bool:
        """Ask for a decision and write it; False if it isn't waited for: there is nobody to ask any more, or others have to
        decide, for whom a person waits and a pipe doesn't.

        Raises:
            Interrupted: Ctrl-C.
            StatusError: there is no such Approval any more.
        """
        ref = ObjectRef("approvals.mastra.ai", name, self._namespace)
        approval = await self._client.get(ref)
        if _is_decided(approval):
            return True
        calls = approval.spec.get("calls") or []
        for line in _asked_about(str(approval.spec.get("message", "")), calls):
            say(line)
        self._draft = _args(calls[0]) if len(calls) == 1 else ""
        while True:
            decision = await self._asked(ref)
            if decision is None:
                say(f"  undecided: {self._command(name)}")
                return False
            if isinstance(decision, Object):
                say(f"  {_elsewhere(decision)}")
                return True
            if isinstance(decision, str):
                say(f"  {decision}")
                continue
            try:
                body = {"status": {"decision": decision}}
                approval = await self._client.patch(ref, body, PatchType.MERGE, subresource="status")
            except StatusError as error:
                say(f"  {one_line(error.message)}")
                if error.code in (403, 404):
                    say(f"  somebody else has to decide: {self._command(name)}")
                    return self._source.person
                continue
            if not _is_decided(approval):
                say(f"  {_missing(approval)}; the others: {self._command(name)}")
                return self._source.person
            return True

    async def _asked(self, ref: ObjectRef) -> dict[str, Any] | str | Object | None:
        """The decision, what is wrong with what was typed, the Approval if it was decided elsewhere, or None at the end."""
        line = await self._typed(ref, "  approve? y, n, e (other arguments): ", "")
        if not isinstance(line, str):
            return line
        decision = _decision(line.strip())
        if decision != "edit":
            return decision
        edited = await self._typed(ref, "  arguments (JSON): ", self._draft)
        if not isinstance(edited, str):
            return edited
        # What was wrong is mended the next time, not typed again.
        self._draft = edited if edited.strip() else self._draft
        return _edited(edited)

    async def _typed(self, ref: ObjectRef, prompt: str, given: str) -> str | Object | None:
        """What is typed, None at the end, or the Approval once it was decided elsewhere."""
        typed: str | Object | None = None
        interrupted: Interrupted | None = None

        async def elsewhere(scope: anyio.CancelScope) -> None:
            nonlocal typed
            try:
                typed = await wait_until(self._client, ref, _is_decided)
            except (StatusError, OSError):
                return  # Who decides is told by the answer to the decision.
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(elsewhere, group.cancel_scope)
            try:
                typed = await self._source.answer(prompt, given)
            except Interrupted as error:
                interrupted = error
            group.cancel_scope.cancel()
        if interrupted is not None:
            raise interrupted
        return typed

    def _command(self, name: str) -> str:
        return f"kastra approve {name}{'' if self._namespace == 'default' else f' -n {self._namespace}'}"


def _asked_about(message: str, calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be decided, whole: nobody agrees to what isn't seen."""
    # A message shows the beginning of long arguments only.
    unseen = [call for call in calls if _args(call) not in message]
    return [
        f"? {one_line(message)}",
        *(f"  {one_line(str(call.get('tool', '')))} {one_line(_args(call))}" for call in unseen),
    ]


def _args(call: Mapping[str, Any]) -> str:
    return orjson.dumps(call.get("args") or {}).decode()


def _is_decided(approval: Object) -> bool:
    return bool((approval.status.get("decision") or {}).get("verdict"))


def _elsewhere(approval: Object) -> str:
    decision = approval.status["decision"]
    verdict = {"approve": "approved", "edit": "approved with other arguments", "reject": "rejected"}
    by = f" by {one_line(str(decision['by']))}" if decision.get("by") else ""
    return f"{verdict.get(decision['verdict'], 'not decided in time')}{by}"


def _missing(approval: Object) -> str:
    needed = int((approval.spec.get("approvers") or {}).get("count") or 1)
    return f"{len(approval.status.get('decisions') or ())} of {needed} have agreed"


def _decision(line: str) -> dict[str, Any] | str:
    """The decision that a line means, `edit`, or what is wrong with it."""
    word, _, rest = line.partition(" ")
    reason = {"reason": rest.strip()} if rest.strip() else {}
    if word.lower() in ("y", "yes"):
        return {"verdict": "approve", **reason}
    if word.lower() in ("n", "no"):
        return {"verdict": "reject", **reason}
    if word.lower() in ("e", "edit"):
        return _edited(rest) if rest.strip() else "edit"
    return _HELP


def _edited(text: str) -> dict[str, Any] | str:
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"that is no JSON: {error}"
    return {"verdict": "edit", "args": arguments} if isinstance(arguments, dict) else "an object of arguments is needed"
