"""Which of several processes acts? The one that holds a Lease.

A candidate takes a Lease nobody has renewed for its duration, judged by the candidate's own monotonic clock since it last
saw the Lease change, so that clocks that disagree do no harm. Writes are compare-and-swap, so two can't take it at once. A
holder that can't renew in time gives up before others may take over. It is advice to controllers, whose writes are guarded
by resourceVersion; it fences nothing else.

Source: client-go's tools/leaderelection. Read next: `kastra.runtime.manager`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from kastra.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from kastra.api.meta import ObjectRef
from kastra.client.interface import Client, WriteOptions
from kastra.client.kubeconfig import KubeconfigError
from kastra.clock import Clock, rfc3339_micro

logger = logging.getLogger(__name__)

_LEASES = "leases.coordination.k8s.io"


class LeadershipLost(Exception):
    """The Lease could not be renewed in time; this process must stop acting."""


@dataclass(frozen=True, slots=True)
class Election:
    """How to take part.

    Args:
        identity: of this process, unique among candidates.
        name: of the Lease.
        namespace: of the Lease.
        duration: seconds after which others may take a Lease that isn't renewed.
        renew_deadline: seconds without success after which the holder gives up; less than `duration`.
        retry_period: seconds between attempts to take or renew.
    """

    identity: str
    name: str = "kastra-controllers"
    namespace: str = "kastra-system"
    duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0


class LeaderElector:
    """One candidate."""

    def __init__(self, client: Client, clock: Clock, election: Election) -> None:
        if not election.retry_period < election.renew_deadline < election.duration:
            raise ValueError("leader election: need retry_period < renew_deadline < duration")
        self._client = client
        self._clock = clock
        self._election = election
        self._seen: tuple[str, float] = ("", 0.0)
        self.leading = False
        """Whether this process holds the Lease, as far as it knows."""

    async def acquire(self) -> None:
        """Return when this process holds the Lease."""
        while not await self._try():
            await self._clock.sleep(self._election.retry_period)
        self.leading = True
        logger.info("leading", extra={"lease": self._election.name, "identity": self._election.identity})

    async def hold(self) -> None:
        """Renew until cancelled.

        Raises:
            LeadershipLost: someone else has it, or it could not be renewed in time.
        """
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._election.retry_period)
            started = self._clock.monotonic()
            if await self._try():
                renewed = started
            elif self._clock.monotonic() - renewed >= self._election.renew_deadline:
                self.leading = False
                raise LeadershipLost(
                    f"Lease {self._election.namespace}/{self._election.name} was not renewed for "
                    f"{self._election.renew_deadline:g} s; another process may be leading"
                )

    async def release(self) -> None:
        """Give the Lease up, so that another candidate needn't wait for it to run out."""
        if not self.leading:
            return
        self.leading = False
        try:
            lease = await self._client.get(self._ref)
            if lease.spec.get("holderIdentity") == self._election.identity:
                await self._write(lease.to_dict(), {"holderIdentity": "", "leaseDurationSeconds": 1})
        except (StatusError, OSError, KubeconfigError) as error:
            logger.info("could not release the Lease; it runs out by itself: %s", error)

    @property
    def _ref(self) -> ObjectRef:
        return ObjectRef(_LEASES, self._election.name, self._election.namespace)

    async def _try(self) -> bool:
        try:
            return await self._in_time()
        except (AlreadyExists, Conflict):
            return False
        except (StatusError, OSError, KubeconfigError) as error:
            # A server that restarts is gone for a while; how long that may take is `hold`'s affair.
            logger.warning("leader election: %s", error)
            return False

    async def _in_time(self) -> bool:
        """As `_take_or_renew`, and False if the server has not answered by when the holder must have renewed."""
        taken = False

        async def expire(scope: anyio.CancelScope) -> None:
            await self._clock.sleep(self._election.renew_deadline - self._election.retry_period)
            scope.cancel()

        failure: StatusError | OSError | KubeconfigError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expire, tasks.cancel_scope)
            try:
                taken = await self._take_or_renew()
            except (StatusError, OSError, KubeconfigError) as error:
                failure = error  # carried out of the task group, which would wrap it
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return taken

    async def _take_or_renew(self) -> bool:
        election, now = self._election, rfc3339_micro(self._clock.now())
        fresh = {"holderIdentity": election.identity, "leaseDurationSeconds": int(election.duration), "renewTime": now}
        try:
            lease = await self._client.get(self._ref)
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": election.name, "namespace": election.namespace},
                "spec": {**fresh, "acquireTime": now, "leaseTransitions": 0},
            }
            await self._client.create(body, WriteOptions(field_manager="kastra"))
            return True
        if lease.resource_version != self._seen[0]:
            self._seen = (lease.resource_version, self._clock.monotonic())
        holder = lease.spec.get("holderIdentity", "")
        if holder == election.identity:
            await self._write(lease.to_dict(), fresh)
            return True
        runs_out = self._seen[1] + float(lease.spec.get("leaseDurationSeconds", 0))
        if holder and self._clock.monotonic() < runs_out:
            return False
        transitions = int(lease.spec.get("leaseTransitions", 0)) + 1
        await self._write(lease.to_dict(), {**fresh, "acquireTime": now, "leaseTransitions": transitions})
        return True

    async def _write(self, lease: dict[str, Any], spec: Mapping[str, Any]) -> None:
        lease["spec"] = {**lease.get("spec", {}), **spec}
        await self._client.update(lease, WriteOptions(field_manager="kastra"))
