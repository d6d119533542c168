"""Creating a Run and following it to its end, over any `Client`.

Read next: `controllers/run.py`, which submits it for execution.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from kastra.api.errors import AlreadyExists, BadRequest, Expired, NotFound
from kastra.api.meta import API_VERSION, DEFAULT_NAMESPACE, GROUP, ObjectRef
from kastra.api.object import Object
from kastra.client.interface import Client, WriteOptions

from .applying import FIELD_MANAGER
from .following import follow_events

TARGET_KINDS = ("Workflow", "Network", "Agent", "Tool")
_CONVERSING = ("Agent", "Network")

_LAST_EVENT = 2.0
"""Seconds to wait for a finished Run's last events."""

EventListener = Callable[[Mapping[str, Any]], None]


class RunFailed(Exception):
    """The Run ended otherwise than by success; `result` has the details."""

    def __init__(self, result: "RunResult") -> None:
        error = result.error or {}
        kind = f"{error['type']}: " if error.get("type") else ""
        super().__init__(f"run/{result.name} {result.phase.lower()}: {kind}{error.get('title') or 'no error recorded'}")
        self.result = result


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a Run ended.

    Args:
        phase: Succeeded, Failed or Cancelled.
        output: JSON-like; None unless it succeeded.
        error: an RFC 7807 problem object (`type`, `title`); None if it succeeded.
        usage: tokens, cost and calls.
    """

    name: str
    namespace: str
    uid: str
    phase: str
    output: Any
    error: Mapping[str, Any] | None
    usage: Mapping[str, Any]

    @classmethod
    def of(cls, run: Object) -> "RunResult":
        """The result that a finished Run's status tells."""
        status = run.status
        return cls(
            run.name,
            run.namespace,
            run.uid,
            status.get("phase", ""),
            status.get("output"),
            status.get("error"),
            status.get("usage") or {},
        )


async def create_run(
    client: Client,
    target: str,
    run_input: Any = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    name: str = "",
    spec: Mapping[str, Any] | None = None,
) -> Object:
    """Create the Run of a target; it starts at once.

    Args:
        target: `KIND/NAME` as in `workflow/x`; the kind by any of its names.
        run_input: JSON-like input; None for none.
        namespace: of the target and of the Run.
        name: of the Run; generated from the target's by default.
        spec: further fields of the Run's spec, such as `timeout` or `durability`.

    Raises:
        BadRequest: the target can't be run, or goes on with no thread and is given one.
        NotFound: there is no such target.
    """
    kind, _, target_name = target.partition("/")
    if not target_name:
        raise BadRequest(f'target "{target}": write KIND/NAME, such as workflow/{target}')
    resource = client.scheme.find(kind)
    if resource.kind not in TARGET_KINDS or resource.api_version != API_VERSION:
        raise BadRequest(f"a {resource.kind} can't be run; these can: {', '.join(TARGET_KINDS)}")
    if spec and spec.get("threadRef") is not None and resource.kind not in _CONVERSING:
        raise BadRequest(f"{target} goes on with no thread; an Agent or a Network does")
    await client.get(ObjectRef(resource.group_resource, target_name, namespace))
    metadata = {"namespace": namespace, **({"name": name} if name else {"generateName": f"{target_name[:52]}-"})}
    body: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": metadata,
        "spec": {
            **(spec or {}),
            "target": {"kind": resource.kind, "name": target_name, "namespace": namespace},
        },
    }
    if run_input is not None:
        body["spec"]["input"] = run_input
    return await client.create(body, WriteOptions(field_manager=FIELD_MANAGER, field_validation="Strict"))


async def own_thread(client: Client, target: str, namespace: str, name: str, resource: str) -> None:
    """Let a thread belong to a resource: make it for the agent or network `target`, or find it as that resource's.

    Raises:
        BadRequest: `target` is neither, or the thread belongs to another resource.
    """
    given, _, agent = target.partition("/")
    kind = client.scheme.find(given).kind
    if kind not in _CONVERSING:
        raise BadRequest(f"{target} goes on with no thread; an Agent or a Network does")
    owner = {"agentRef": {"name": agent}} if kind == "Agent" else {}
    body = {
        "apiVersion": API_VERSION,
        "kind": "Thread",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**owner, "resourceId": resource},
    }
    try:
        thread = await client.create(body, WriteOptions(field_manager=FIELD_MANAGER, field_validation="Strict"))
    except AlreadyExists:
        thread = await client.get(ObjectRef(f"Thread.{GROUP}", name, namespace))
    if thread.spec.get("resourceId") != resource:
        raise BadRequest(f"thread {namespace}/{name} belongs to another resource than {resource[:100]!r}")


def has_ended(run: Object) -> bool:
    """Whether a Run will do nothing more."""
    return run.is_condition_true("Complete")


async def follow_run(
    client: Client,
    run: Object,
    on_event: EventListener | None = None,
    *,
    until: Callable[[Object], bool] = has_ended,
) -> RunResult:
    """Wait until the Run has ended, handing each of its events to `on_event` on the way.

    Args:
        until: when to stop, if not at its end; the result then has the phase in which it is.

    Raises:
        NotFound: the Run was deleted meanwhile.
    """
    listened = anyio.Event()
    ended = run

    async def listen(listener: EventListener) -> None:
        async for event in follow_events(client, run.ref):
            listener(event)
        listened.set()

    async with anyio.create_task_group() as group:
        if on_event is not None:
            group.start_soon(listen, on_event)
        ended = await wait_until(client, run.ref, until)
        if on_event is not None and has_ended(ended):
            # The stream ends by itself after the Run's last event, which the status may have overtaken.
            with anyio.move_on_after(_LAST_EVENT):
                await listened.wait()
        group.cancel_scope.cancel()
    return RunResult.of(ended)


async def wait_until(client: Client, ref: ObjectRef, satisfied: Callable[[Object], bool]) -> Object:
    """The first state of an object that satisfies a predicate.

    Raises:
        NotFound: there is no such object, or it was deleted while waiting.
    """
    selector = f"metadata.name={ref.name}"
    while True:
        # The list's revision, since an object that hasn't changed for long is at one that no watch reaches back to.
        page = await client.list(ref.kind, ref.namespace, field_selector=selector)
        if not page.items:
            raise NotFound(f"{ref} does not exist", name=ref.name)
        if satisfied(page.items[0]):
            return page.items[0]
        try:
            async with client.watch(
                ref.kind, ref.namespace, field_selector=selector, resource_version=page.resource_version
            ) as events:
                async for event in events:
                    if event.type == "DELETED":
                        raise NotFound(f"{ref} was deleted", name=ref.name)
                    if satisfied(event.object):
                        return event.object
        except Expired:
            continue
