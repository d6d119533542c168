"""What one can do to a Run besides changing its object: cancel, suspend, resume, signal, rerun.

    cancel    end it                       resume    go on; or answer the step that is held
    suspend   begin nothing further        signal    send it an event
    rerun     the same once more, as a new Run

Each is a subresource of its own, so it takes a permission of its own and not that to write Runs; the server carries it out
on behalf of whoever asked. A wish is passed on by the Run's controller and survives a crash. Read next: `controllers/run.py`.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from kastra.api.errors import BadRequest, Conflict
from kastra.api.meta import API_VERSION, GROUP
from kastra.apiserver.subresources import ConnectRequest
from kastra.client.interface import Client, PatchType, WriteOptions
from kastra.clock import Clock
from kastra.engine.pool import Pool

from .run_answers import SIGNAL_FIELDS, answer, signal

RERUN_OF = f"{GROUP}/rerun-of"
"""Annotation of a Run that repeats another: its name."""

_FROM = ("fromStep", "overrides", "keepKeys")


class RunActions:
    """The subresources that act.

    Args:
        client: writes on behalf of whoever is allowed the subresource.
        pool: executes the Runs.
    """

    def __init__(self, client: Client, pool: Pool, clock: Clock) -> None:
        self._client = client
        self._pool = pool
        self._clock = clock

    async def connect(self, name: str, request: ConnectRequest) -> AsyncIterator[Mapping[str, Any]]:
        """Do one of the five; gives the Run as it is then, or the new one."""
        actions = {"cancel": self.cancel, "suspend": self.suspend, "resume": self.resume, "rerun": self.rerun}
        yield await {**actions, "signal": self.signal}[name](request)

    async def cancel(self, request: ConnectRequest) -> Mapping[str, Any]:
        """End the Run, now or when it would begin. Raises Conflict if it has ended."""
        _known(request, ())
        return await self._wish(request, "Cancelled")

    async def suspend(self, request: ConnectRequest) -> Mapping[str, Any]:
        """Let it begin nothing further. Raises Conflict if it has ended."""
        _known(request, ())
        return await self._wish(request, "Suspended")

    async def resume(self, request: ConnectRequest) -> Mapping[str, Any]:
        """Let it go on; with `{stepKey?, data}`, answer the step that is held there.

        A step in doubt takes `{data: {action: retry | fail | complete, output?}}`. Without a body, a step that is held is
        answered with an empty object, and a Run that was suspended on request goes on.

        Raises:
            BadRequest: the answer isn't one, or it isn't said which step it is for.
            Invalid: it doesn't satisfy the step's `resumeSchema`; the causes have the fields.
            Conflict: it has ended, or nothing is held.
        """
        body = _known(request, ("stepKey", "data"))
        _refuse_ended(request)
        return await answer(self._pool, self._clock, request, body) or await self._wish(request, "Running")

    async def signal(self, request: ConnectRequest) -> Mapping[str, Any]:
        """Send it an event, `{name | type, data?, id?}`: the first wait that it fits takes it, now or later, once.

        Raises:
            BadRequest: the body is no signal.
            Conflict: it has ended, or is not under way here.
        """
        _refuse_ended(request)
        return await signal(self._pool, self._clock, request, _known(request, SIGNAL_FIELDS))

    async def rerun(self, request: ConnectRequest) -> Mapping[str, Any]:
        """Create a Run with the same target and settings; `{name?, input?}` override. Returns the new Run.

        With `fromStep`, `overrides` or `keepKeys` it takes over what this one did before that step; see `spec.rerunOf`.

        Raises:
            Conflict: this one has not ended, so it can't be repeated from a step.
        """
        body = _known(request, ("name", "input", *_FROM))
        old = request.object
        spec = {key: value for key, value in old.spec.items() if key not in ("desiredState", "revision", "rerunOf")}
        if "input" in body:
            spec["input"] = body["input"]
            spec.pop("messages", None)
        if any(field in body for field in _FROM):
            if not old.is_condition_true("Complete"):
                raise Conflict(f"run {old.name} has not ended yet; cancel it, or wait until it has")
            spec["rerunOf"] = {"name": old.name, **{field: body[field] for field in _FROM if field in body}}
        stem = old.metadata.get("annotations", {}).get(RERUN_OF, old.name)
        named = {"name": body["name"]} if body.get("name") else {"generateName": f"{stem[:52]}-"}
        metadata = {**named, "namespace": old.namespace, "annotations": {RERUN_OF: stem}}
        made = {"apiVersion": API_VERSION, "kind": "Run", "metadata": metadata, "spec": spec}
        return (await self._client.create(made, _by(request))).data

    async def _wish(self, request: ConnectRequest, state: str) -> Mapping[str, Any]:
        _refuse_ended(request)
        patch = {"metadata": {"uid": request.object.uid}, "spec": {"desiredState": state}}
        return (await self._client.patch(request.object.ref, patch, PatchType.MERGE, _by(request))).data


def _by(request: ConnectRequest) -> WriteOptions:
    return WriteOptions(field_manager=request.user.name[:128])


def _known(request: ConnectRequest, fields: tuple[str, ...]) -> Mapping[str, Any]:
    body = request.body or {}
    # Clients that post an object name its kind; it says nothing here.
    unknown = sorted(body.keys() - {*fields, "apiVersion", "kind", "metadata"})
    if unknown:
        takes = f"it takes {', '.join(fields)}" if fields else "it takes no body"
        raise BadRequest(f"unknown field {unknown[0]!r}: {takes}")
    return body


def _refuse_ended(request: ConnectRequest) -> None:
    run = request.object
    if run.is_condition_true("Complete"):
        raise Conflict(f"run {run.name} has ended ({run.status.get('phase')}); rerun it to have it once more")
