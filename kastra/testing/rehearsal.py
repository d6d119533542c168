"""A Run in virtual time, from its beginning to its end or to where nothing happens any more.

Time stands still while anything is at work and then goes at once to the next moment at which something is due, so that a workflow
that waits for a day takes milliseconds. What comes from outside (signals, decisions, cancelling) is delivered at its moment; the
process crashes where a test says so, and the Run is taken up again from its journal.

Everything is the real thing: API server, controllers, executor, journal. Read next: `kastra.testing.doubles`.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from kastra.api.cloudevents import parse_event
from kastra.api.errors import StatusError
from kastra.api.meta import DEFAULT_NAMESPACE, GROUP, ObjectRef
from kastra.api.object import Object
from kastra.apiserver.call import User
from kastra.apiserver.loopback import LoopbackClient
from kastra.app.composition import Composition
from kastra.app.running import create_run
from kastra.clock import rfc3339

from .clock import VirtualClock
from .doubles import TestDoubles, ToolCall
from .stillness import Stillness

_STUCK = 100
"""Moments that pass without a new record before a Run that waits for nothing in time is left alone."""
_NEVER = 10 * 366 * 24 * 3600.0
_TIMED = frozenset({"Timer", "Retry", "Child"})


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that comes from outside.

    Args:
        at: seconds after the Run began.
        action: `signal`, `event`, `approve`, `resume`, `suspend` or `cancel`.
        body: of the action, as the API takes it; for `approve` `{verdict, step?, by?, reason?, args?}`.
    """

    at: float
    action: str
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rehearsed Run ended, or where it stands.

    Args:
        phase: of the Run; Waiting or Suspended if nothing that happens would let it go on.
        error: an RFC 7807 problem object; None unless it failed.
        steps: rows of `runs/steps` by stepKey.
        calls: the tools that were called, in order.
        records: the whole journal, as `runs/history` gives it.
        duration: seconds of virtual time.
        waiting_for: what it waits for.
        definition: what it executed, as `runs/definition` gives it; empty if it never began.
        unused: turns of scripts that nobody asked for.
    """

    name: str
    phase: str
    output: Any
    error: Mapping[str, Any] | None
    steps: Mapping[str, Mapping[str, Any]]
    calls: Sequence[ToolCall]
    records: Sequence[Mapping[str, Any]]
    duration: float
    waiting_for: Sequence[Mapping[str, Any]]
    definition: Mapping[str, Any]
    unused: Sequence[str] = ()


class Undelivered(AssertionError):
    """Something that was to come from outside was refused; the message says why."""


class Rehearsal:
    """Runs targets on one control plane, one after the other.

    Args:
        parts: of the control plane.
        clock: its time.
        doubles: its tools and models.
    """

    def __init__(self, parts: Composition, clock: VirtualClock, doubles: TestDoubles) -> None:
        self._parts = parts
        self._clock = clock
        self._doubles = doubles
        self._still = Stillness(parts, clock, doubles)

    async def run(
        self,
        target: str,
        value: Any = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        spec: Mapping[str, Any] | None = None,
        deliver: Iterable[Delivery] = (),
        crash_after: Iterable[str] = (),
        timeout: float = 20.0,
    ) -> Outcome:
        """Run a target.

        Args:
            value: its input.
            spec: further fields of the Run.
            deliver: what comes from outside.
            crash_after: stepKeys; once the completion of each is durable the process crashes, and recovers.
            timeout: seconds of real time after which the test is given up.

        Raises:
            NotFound: there is no such target.
            Undelivered: something from outside was refused.
            TimeoutError: real tools took too long.
        """
        with anyio.move_on_after(timeout):
            return await self._run(target, value, namespace, spec, list(deliver), list(crash_after))
        raise TimeoutError(
            f"{target} has not come to rest within {timeout:g} s of real time; is a tool waiting for something?"
        )

    async def _run(
        self,
        target: str,
        value: Any,
        namespace: str,
        spec: Mapping[str, Any] | None,
        deliver: list[Delivery],
        crash_after: list[str],
    ) -> Outcome:
        client, calls = self._parts.client, len(self._doubles.calls)
        held = {**(spec or {}), "desiredState": "Suspended"}
        # Held at first, so that nothing can happen before its events are followed.
        run = await create_run(client, target, value, namespace=namespace, spec=held)
        began = self._clock.monotonic()
        execution = self._parts.execution
        assert execution is not None

        def crash() -> None:
            # Called where a commit lands, before anybody who waits for it goes on; so is what this begins.
            self._still.restarts.append(asyncio.get_running_loop().create_task(execution.pool.restart()))

        def notice(event: Mapping[str, Any]) -> bool:
            if event.get("type") == "step.completed" and event.get("key") in crash_after:
                crash_after.remove(event["key"])
                crash()
            return False

        self._doubles.crash = crash
        watched = self._parts.bus.subscribe(f"run/{run.uid}", accept=notice)
        try:
            await client.patch(run.ref, {"spec": {"desiredState": (spec or {}).get("desiredState", "Running")}})
            await self._until_rest(run, began, sorted(deliver, key=lambda one: one.at))
        finally:
            watched.close()
            self._doubles.crash = None
            for restart in self._still.restarts:
                await restart
            self._still.restarts.clear()
        if crash_after:
            raise Undelivered(f"no crash after {', '.join(crash_after)}: no step of that key has completed")
        return await self._outcome(run, began, calls)

    async def _until_rest(self, run: Object, began: float, deliver: list[Delivery]) -> None:
        execution = self._parts.execution
        assert execution is not None
        quiet, last = 0, -1
        while True:
            await self._still.reached()
            now = self._clock.monotonic() - began
            while deliver and deliver[0].at <= now:
                await self._deliver(run, deliver.pop(0))
                quiet = 0
                await self._still.reached()
            current = await self._parts.client.get(run.ref)
            if current.is_condition_true("Complete"):
                if deliver:
                    raise Undelivered(f"{deliver[0].action} at {deliver[0].at:g}s: the Run had ended at {now:g}s")
                return
            progress = await execution.pool.progress(run.uid)
            seq = progress.last_seq if progress is not None else 0
            quiet, last = (quiet + 1 if seq == last else 0), seq
            waits = progress.waiting_for if progress is not None else ()
            timed = any("until" in wait or wait["kind"] in _TIMED for wait in waits)
            if not deliver and not timed and quiet >= _STUCK:
                return
            dues = (self._still.next_due(), deliver[0].at - now if deliver else None)
            due = min((due for due in dues if due is not None), default=None)
            if due is None or now + due > _NEVER:
                return
            await self._clock.leap(due)

    async def _deliver(self, run: Object, delivery: Delivery) -> None:
        client = self._parts.client
        try:
            if delivery.action == "approve":
                await self._decide(run, delivery.body)
            elif delivery.action == "event":
                moment = {"specversion": "1.0", "time": rfc3339(self._clock.now()), **delivery.body}
                execution = self._parts.execution
                assert execution is not None
                await execution.pool.mailroom.deliver(run.namespace, parse_event(moment))
            else:
                async for _ in client.connect(run.ref, delivery.action, dict(delivery.body)):
                    pass
        except StatusError as error:
            raise Undelivered(f"{delivery.action} at {delivery.at:g}s: {error.message}") from error

    async def _decide(self, run: Object, body: Mapping[str, Any]) -> None:
        step = body.get("step")
        page = await self._parts.client.list(f"approvals.{GROUP}", run.namespace)
        waiting = [
            approval
            for approval in page.items
            if (approval.spec.get("runRef") or {}).get("name") == run.name
            and not (approval.status.get("decision") or {}).get("verdict")
            and (step is None or approval.spec.get("stepKey") == step)
        ]
        if len(waiting) != 1:
            keys = ", ".join(str(approval.spec.get("stepKey")) for approval in waiting) or "none"
            raise Undelivered(f"approve: one approval must wait, and there wait: {keys}")
        user = User(str(body.get("by") or "tester"), ("system:masters",))
        decision = {name: body[name] for name in ("verdict", "reason", "args") if name in body}
        ref = ObjectRef(f"approvals.{GROUP}", waiting[0].name, run.namespace)
        as_user = LoopbackClient(self._parts.api.registry, user=user)
        await as_user.patch(ref, {"status": {"decision": decision}}, subresource="status")

    async def _outcome(self, run: Object, began: float, calls: int) -> Outcome:
        client = self._parts.client
        duration = self._clock.monotonic() - began
        current = await client.get(run.ref)
        status = current.status
        records = [record async for record in client.connect(run.ref, "history")]
        definitions = [record async for record in client.connect(run.ref, "definition")]
        steps = {row["key"]: row async for row in client.connect(run.ref, "steps")}
        return Outcome(
            run.name,
            status.get("phase") or "Pending",
            status.get("output"),
            status.get("error"),
            steps,
            self._doubles.calls[calls:],
            records,
            duration,
            status.get("waitingFor") or (),
            definitions[0] if definitions else {},
            self._doubles.unused(),
        )
