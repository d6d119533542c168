"""Which server is meant, and a client of it: what the command line's flags and `kastra.connect` come down to.

A target is a kubeconfig's context, a URL, or the process of this machine that serves a store. Imports little, because every
remote command goes through here. Read next: `kastra.client.http`.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kastra.client.http import HttpClient
from kastra.client.kubeconfig import Cluster, load_cluster

if TYPE_CHECKING:
    from kastra.api.scheme import Resource


@dataclass(frozen=True, slots=True)
class Target:
    """Which server. Empty fields say nothing; a target that is all empty means the store of the project.

    Args:
        kubeconfig: a kubeconfig file.
        context: the name of one of its contexts.
        server: a URL in place of the context's.
    """

    kubeconfig: str = ""
    context: str = ""
    server: str = ""

    def __bool__(self) -> bool:
        return bool(self.kubeconfig or self.context or self.server)

    def cluster(self) -> Cluster:
        """The server and its credentials, as they were when first asked for. Raises KubeconfigError."""
        return _cluster(self)


@lru_cache(maxsize=1)
def _cluster(target: Target) -> Cluster:
    # A command needs the context's namespace before it connects; reading the files once does for both.
    return load_cluster(target.kubeconfig or None, target.context, decode=decode_one, server=target.server)


def decode_one(raw: bytes) -> Any:
    """The value of the one YAML document in `raw`; None without any. Raises ValueError that says where it is broken."""
    from kastra.manifest.decode import DecodeError, decode

    try:
        documents = decode(raw)
    except DecodeError as error:
        raise ValueError(f"line {error.line}, column {error.column}: {error.message}") from None
    if len(documents) > 1:
        raise ValueError(f"one document is expected, not {len(documents)}")
    return documents[0].value if documents else None


def serving_owner(store: Path) -> Cluster | None:
    """The process that owns a store, if it serves; None if nobody owns it, or the owner doesn't serve."""
    from kastra.sql.owner import holder_of, read_endpoint

    endpoint, holder = read_endpoint(store), holder_of(store)
    if endpoint is None or holder is None or endpoint.pid != holder.pid or holder.pid == os.getpid():
        return None
    try:
        os.kill(endpoint.pid, 0)
        authority = (Path(endpoint.ca).read_bytes() if endpoint.ca else b"") or None
    except (OSError, ValueError):
        return None
    return Cluster(endpoint.url, authority=authority, token=endpoint.token, context=str(store))


@asynccontextmanager
async def client_of(
    cluster: Cluster,
    *,
    field_manager: str = "kastra",
    on_warning: Callable[[str], None] | None = None,
    schemas: bool = False,
    remember: bool = True,
) -> AsyncIterator[HttpClient]:
    """A client of a server, until the block ends.

    Args:
        schemas: with the schemas of kinds, for checking and explaining.
        remember: use the cache of discovery in the user's cache folder.

    Raises:
        Unreachable: there is no such server, or it isn't trusted.
        StatusError: it refuses to tell its kinds.
    """
    from kastra.client.discovery import DiscoveryCache

    async with HttpClient.open(
        cluster,
        field_manager=field_manager,
        on_warning=on_warning,
        known=builtin_resources,
        schemas=schemas,
        cache=DiscoveryCache(cluster) if remember else None,
    ) as client:
        yield client


def builtin_resources() -> "Iterable[Resource]":
    """The kinds that every server of Kastra has without a definition: what discovery doesn't tell of them."""
    from kastra.apiserver.builtin import BUILTINS, CUSTOM_RESOURCE_DEFINITION

    return (*(resource for resource, _ in BUILTINS), CUSTOM_RESOURCE_DEFINITION)
