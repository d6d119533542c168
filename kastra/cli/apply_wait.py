"""`kastra apply --wait` and `--run`: stay until every applied object is Ready, and every started Run has ended."""

from typing import TYPE_CHECKING, Any

import anyio

from .readiness import is_ready
from .session import announced
from .waiting import until_satisfied

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.api.object import Object
    from kastra.app.applying import ApplyReport
    from kastra.client.interface import Client


async def wait_for_all(client: "Client", report: "ApplyReport", options: dict[str, Any]) -> bool:
    """Whether everything is as it should be; `--timeout` bounds the wait for Ready, and Runs bound themselves."""
    refs = [one.ref for one in report.applied if one.verb != "pruned"]
    runs = [ref for ref in refs if ref.kind.startswith("Run.")]
    others = [ref for ref in refs if ref not in runs]
    ready = True
    if options["wait"]:
        with announced("waiting until everything is ready"), anyio.move_on_after(options["timeout"]) as scope:
            for ref in others:
                await _until(client, ref, is_ready)
        ready = not scope.cancelled_caught
    if options["start_runs"]:
        for ref in runs:
            with announced(f"waiting for run/{ref.name}"):
                ended = await _until(client, ref, _has_ended)
            ready = ready and ended is not None and ended.is_condition_true("Succeeded")
    return ready


def _has_ended(run: "Object") -> bool:
    # A Run that somebody holds back ends when they let it go on, which may be never.
    return run.is_condition_true("Complete") or run.spec.get("desiredState") == "Suspended"


async def _until(client: "Client", ref: "ObjectRef", satisfied: Any) -> "Object | None":
    from kastra.api.errors import NotFound

    try:
        return await until_satisfied(client, ref, satisfied)
    except NotFound:
        return None
