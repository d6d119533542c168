"""What every controller promises: looking again at an object that is settled changes nothing.

await assert_settled_pass_writes_nothing(env.manager, "agent", "default", "a", lambda: writes_so_far)
"""

from collections.abc import Callable

from kastra.runtime import RECONCILE_TOPIC, Manager, Request


async def assert_settled_pass_writes_nothing(
    manager: Manager, controller: str, namespace: str, name: str, writes: Callable[[], int], passes: int = 2
) -> None:
    """Make `passes` more passes over an object that has settled, and fail if any of them writes or fails.

    Args:
        manager: runs the controller; started.
        controller: its name, `agent` for the Agent controller.
        namespace: of the object.
        name: of the object.
        writes: how many writes there were so far: a counter of the client, or the store's revision.
        passes: how often to look again.
    """
    await manager.settle()
    for number in range(1, passes + 1):
        before = writes()
        async with manager.bus.subscribe(RECONCILE_TOPIC) as outcomes:
            manager.enqueue(controller, Request(namespace, name))
            await manager.settle()
            events = [event for _, event in await outcomes.batch()]
        mine = [e for e in events if (e["controller"], e["namespace"], e["name"]) == (controller, namespace, name)]
        assert mine, f"controller {controller!r} did not look at {namespace}/{name}"
        failed = [e for e in mine if e["outcome"] not in ("success", "requeue")]
        assert not failed, f"pass {number} over {namespace}/{name} failed: {failed}"
        written = writes() - before
        assert not written, f"pass {number} over the settled {namespace}/{name} wrote {written} times"
