"""The Python API against a server: `kastra.connect`, for `kastra serve` and for clusters with Kastra's kinds.

    async with kastra.connect(context="prod") as k:
        await k.apply("manifests")
        result = await k.run("workflow/recipe-suggestion", input={"ingredients": ["eggs"]})

The same object API as `kastra.open`, without what only the owner of a store has: its bus and its reconcile loop. Controllers
and Runs are the server's. Read next: `kastra.app.operations`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from kastra.api.meta import GROUP, ObjectRef
from kastra.api.object import Object
from kastra.client.http import HttpClient
from kastra.client.kubeconfig import Cluster, load_cluster
from kastra.clock import SystemClock
from kastra.config import Settings, load_settings
from kastra.manifest.loader import Loaded

from .applying import ApplyOptions, ApplyReport
from .clusters import client_of, decode_one
from .composition import discover_controllers
from .operations import Operations
from .validation import KindValidator

_NOTICE = 5.0
"""Seconds that the server's controllers get to notice an object at all; on a server without them nobody ever does."""
_QUIET = 0.6
"""Seconds without a change after which what isn't Ready won't be soon."""
_LOOK = 0.1


class Remote(Operations):
    """A server. Made by `kastra.connect`.

    Attributes:
        client: reads and writes objects; the Kubernetes API over HTTP.
        cluster: which server, as whom.
    """

    def __init__(self, client: HttpClient, cluster: Cluster, settings: Settings) -> None:
        self.client = self._http = client
        self.cluster = cluster
        self.settings = settings
        self.namespace = cluster.namespace
        self._found: Mapping[tuple[str, str], KindValidator] | None = None
        self._applied: list[ObjectRef] = []

    async def version(self) -> Mapping[str, Any]:
        """What the server says of itself (`gitVersion`, `platform`, ...)."""
        return await self._http.version()

    async def apply(
        self,
        *sources: str | Path | Loaded,
        prune: str | None = None,
        options: ApplyOptions | None = None,
        **fields: Any,
    ) -> ApplyReport:
        """As `Operations.apply`; what was applied is what `settle` waits for."""
        report = await super().apply(*sources, prune=prune, options=options, **fields)
        self._applied = [
            one.ref for one in report.applied if one.verb != "pruned" and one.ref.kind.endswith(f".{GROUP}")
        ]
        return report

    async def settle(self, timeout: float | None = None) -> bool:
        """Wait until the server's controllers have looked at what was last applied, and it is Ready or rests.

        Returns:
            False if that took more than `timeout` seconds.
        """
        clock = SystemClock()
        began = since = clock.monotonic()
        seen: dict[str, str] = {}
        with anyio.move_on_after(timeout):
            while self._applied:
                objects = await self._present()
                versions = {obj.uid: obj.resource_version for obj in objects}
                now = clock.monotonic()
                if versions != seen:
                    seen, since = versions, now
                waiting = [obj for obj in objects if not _noticed(obj)]
                unready = [obj for obj in objects if not obj.is_condition_true("Ready")]
                if not unready or (now - since >= _QUIET and (not waiting or now - began >= _NOTICE)):
                    break
                await clock.sleep(_LOOK)
            self._applied = []
            return True
        return False

    async def _present(self) -> list[Object]:
        """What was applied, as it is now; without Runs, whose end is another matter."""
        wanted: dict[tuple[str, str], set[str]] = {}
        for ref in self._applied:
            if not ref.kind.startswith("Run."):
                wanted.setdefault((ref.kind, ref.namespace or self.namespace), set()).add(ref.name)
        found: list[Object] = []
        for (kind, namespace), names in wanted.items():
            page = await self.client.list(kind, namespace)
            found += [obj for obj in page.items if obj.name in names]
        return found

    async def _keep_up(self) -> None:
        """Nothing: the server's controllers need no help of ours."""

    def _validators(self) -> Mapping[tuple[str, str], KindValidator]:
        if self._found is None:
            self._found = discover_controllers(self.settings).validators
        return self._found


def _noticed(obj: Object) -> bool:
    ready = obj.condition("Ready")
    return ready is not None and ready.get("observedGeneration", obj.generation) >= obj.generation


@asynccontextmanager
async def connect(
    context: str = "",
    *,
    kubeconfig: str | Path | None = None,
    server: str = "",
    cluster: Cluster | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> AsyncIterator[Remote]:
    """Connect to a server.

    Args:
        context: of the kubeconfig; by default its current one.
        kubeconfig: the file; by default those that `KUBECONFIG` lists, else `~/.kube/config`, else a pod's credentials.
        server: URL in place of the context's.
        cluster: the server itself, instead of a kubeconfig.
        settings: by default those of the project around the working directory.
        options: `on_warning`, `field_manager`, `remember`, as for `kastra.app.clusters.client_of`.

    Raises:
        KubeconfigError: the kubeconfig can't be used.
        Unreachable: there is no such server, or it isn't trusted.
        Unauthorized: it doesn't know the credentials.
    """
    settings = settings or load_settings()
    if cluster is None:
        cluster = load_cluster(kubeconfig, context, decode=decode_one, server=server)
    async with client_of(cluster, schemas=True, **options) as client:
        yield Remote(client, cluster, settings)
