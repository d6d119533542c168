"""Which kinds does a server have? Its discovery documents become a `Scheme`; a file remembers them between commands.

The aggregated documents take two requests; servers that don't have them are asked version by version. Printer columns,
selectable fields and schemas aren't part of discovery, so they are taken from the CustomResourceDefinitions, as far as the
user may read these, and for built-in kinds from whoever makes this client. What is remembered for ten minutes has no schemas,
and is forgotten as soon as something isn't found in it.

Source: apidiscovery.k8s.io/v2, client-go discovery (and its cache on disk). Read next: `kastra.client.http`.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import orjson

from kastra.api.errors import Forbidden, NotAcceptable, NotFound
from kastra.api.meta import join_api_version, split_api_version
from kastra.api.scheme import PrinterColumn, Resource, ScalePaths

from .kubeconfig import Cluster

TTL = 600.0
"""Seconds for which a file is believed."""
DEFINITIONS = "customresourcedefinitions"
_EXTENSIONS = "apiextensions.k8s.io"
_AGGREGATED = "APIGroupDiscoveryList"
_ACCEPT = {
    "Accept": ",".join(
        [
            *(f"application/json;g=apidiscovery.k8s.io;v={version};as={_AGGREGATED}" for version in ("v2", "v2beta1")),
            "application/json",
        ]
    )
}
_PAGE = 100
_FORMAT = 1
_AGE = PrinterColumn("Age", "date", ".metadata.creationTimestamp")

Known = Callable[[], Iterable[Resource]]
"""The built-in kinds of whoever makes a client, for what discovery doesn't tell of them."""


class Fetch(Protocol):
    """GET of a JSON document. Raises StatusError."""

    async def __call__(self, target: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The document at `target`, a path with its query."""
        ...


@dataclass(slots=True)
class Discovered:
    """The kinds, and the verbs of what hangs below them: `{("runs.mastra.ai", "events"): "get"}`."""

    resources: list[Resource] = field(default_factory=list)
    connects: dict[tuple[str, str], str] = field(default_factory=dict)


async def discover(fetch: Fetch, known: Known, *, schemas: bool) -> Discovered:
    """Ask the server.

    Args:
        schemas: with the schemas of kinds, which only checking and explaining need.
    """
    found = Discovered()
    core = await fetch("/api", _ACCEPT)
    if core.get("kind") == _AGGREGATED:
        for document in (core, await fetch("/apis", _ACCEPT)):
            _take_aggregated(document, found)
    else:
        await _take_plain(fetch, core, found)
    details = {(r.group, r.version, r.kind): r for r in known()}
    missing = {r.group for r in found.resources if (r.group, r.version, r.kind) not in details}
    has_definitions = any(r.plural == DEFINITIONS for r in found.resources)
    if has_definitions and any("." in group and not group.endswith(".k8s.io") for group in missing):
        # Whoever may not read the definitions sees names and ages.
        with suppress(Forbidden, NotFound):
            details.update(await _definitions(fetch, schemas=schemas))
    found.resources = [
        _completed(r, details.get((r.group, r.version, r.kind)), schemas=schemas) for r in found.resources
    ]
    return found


def _completed(resource: Resource, detail: Resource | None, *, schemas: bool) -> Resource:
    if detail is None:
        return resource
    return replace(
        resource,
        storage_version=detail.storage_version,
        has_generation=detail.has_generation,
        scale=detail.scale,
        columns=detail.columns,
        selectable_fields=detail.selectable_fields,
        schema=detail.schema if schemas else None,
        builtin=detail.builtin,
    )


def _take_aggregated(document: Mapping[str, Any], found: Discovered) -> None:
    for group in document.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            for row in version.get("resources") or ():
                below = {sub["subresource"]: tuple(sub.get("verbs") or ()) for sub in row.get("subresources") or ()}
                kind = (row.get("responseKind") or {}).get("kind") or ""
                if kind:
                    _take(found, name, version["version"], kind, row["resource"], row, below)


async def _take_plain(fetch: Fetch, core: Mapping[str, Any], found: Discovered) -> None:
    versions = [f"/api/{version}" for version in core.get("versions") or ()]
    for group in (await fetch("/apis")).get("groups") or ():
        versions += [f"/apis/{version['groupVersion']}" for version in group.get("versions") or ()]
    for path in versions:
        try:
            document = await fetch(path)
        except (NotFound, NotAcceptable):
            continue  # The kind's last version has just gone.
        group, version = split_api_version(document.get("groupVersion") or "")
        rows = [row for row in document.get("resources") or () if isinstance(row.get("name"), str)]
        for row in rows:
            if "/" not in row["name"]:
                below = {
                    other["name"].partition("/")[2]: tuple(other.get("verbs") or ())
                    for other in rows
                    if other["name"].startswith(f"{row['name']}/")
                }
                told = {**row, "scope": "Namespaced" if row.get("namespaced") else "Cluster"}
                told["singularResource"] = row.get("singularName")
                _take(found, group, version, row["kind"], row["name"], told, below)


def _take(
    found: Discovered,
    group: str,
    version: str,
    kind: str,
    plural: str,
    row: Mapping[str, Any],
    below: Mapping[str, tuple[str, ...]],
) -> None:
    resource = Resource(
        group,
        version,
        kind,
        plural,
        row.get("singularResource") or kind.lower(),
        f"{kind}List",
        namespaced=row.get("scope") == "Namespaced",
        storage_version=version,
        short_names=tuple(row.get("shortNames") or ()),
        categories=tuple(row.get("categories") or ()),
        has_status="status" in below,
        scale=ScalePaths("", "") if "scale" in below else None,
        subresources=tuple(name for name in below if name not in ("status", "scale")),
        columns=(_AGE,),
        verbs=tuple(sorted(row.get("verbs") or ())),
    )
    found.resources.append(resource)
    for name, verbs in below.items():
        if verbs in (("get",), ("create",)):
            found.connects[(resource.group_resource, name)] = verbs[0]


async def _definitions(fetch: Fetch, *, schemas: bool) -> dict[tuple[str, str, str], Resource]:
    found: dict[tuple[str, str, str], Resource] = {}
    token = ""
    while True:
        from urllib.parse import quote

        more = f"&continue={quote(token, safe='')}" if token else ""
        page = await fetch(f"/apis/{_EXTENSIONS}/v1/{DEFINITIONS}?limit={_PAGE}{more}")
        for definition in page.get("items") or ():
            for resource in _of_definition(definition.get("spec") or {}, schemas=schemas):
                found[(resource.group, resource.version, resource.kind)] = resource
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


def _of_definition(spec: Mapping[str, Any], *, schemas: bool) -> Iterable[Resource]:
    names, versions = spec.get("names") or {}, spec.get("versions") or ()
    stored = next((version["name"] for version in versions if version.get("storage")), "")
    for version in versions:
        scale = (version.get("subresources") or {}).get("scale")
        columns = tuple(
            PrinterColumn(
                column["name"],
                column["type"],
                column["jsonPath"],
                column.get("description", ""),
                column.get("format", ""),
                column.get("priority", 0),
            )
            for column in version.get("additionalPrinterColumns") or ()
        )
        yield Resource(
            spec.get("group", ""),
            version["name"],
            names.get("kind", ""),
            names.get("plural", ""),
            names.get("singular", ""),
            names.get("listKind", ""),
            namespaced=spec.get("scope") == "Namespaced",
            storage_version=stored,
            scale=ScalePaths(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", ""))
            if scale
            else None,
            columns=columns or (_AGE,),
            selectable_fields=tuple(f["jsonPath"].removeprefix(".") for f in version.get("selectableFields") or ()),
            schema=(version.get("schema") or {}).get("openAPIV3Schema") if schemas else None,
        )


class DiscoveryCache:
    """One server's kinds in a file of the user's cache folder.

    Args:
        folder: by default `kastra/discovery` in `XDG_CACHE_HOME`, or in `~/.cache`.
    """

    def __init__(self, cluster: Cluster, folder: Path | None = None) -> None:
        if folder is None:
            home = os.environ.get("XDG_CACHE_HOME")
            folder = (Path(home) if home else Path("~/.cache").expanduser()) / "kastra" / "discovery"
        # What one user may discover, another may not; the digest gives nothing away.
        identity = (cluster.server, cluster.authority, cluster.token, cluster.certificate, cluster.context)
        self.file = folder / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.json"

    def read(self, now: float) -> Discovered | None:
        """What was written less than `TTL` seconds before `now` (seconds since 1970); None otherwise."""
        try:
            if not 0 <= now - self.file.stat().st_mtime < TTL:
                return None
            told = orjson.loads(self.file.read_bytes())
            if told["format"] != _FORMAT:
                return None
            resources = [_from_row(row) for row in told["resources"]]
            return Discovered(resources, {(kind, name): verb for kind, name, verb in told["connects"]})
        except (OSError, ValueError, KeyError, TypeError):
            return None  # A cache that can't be read is no cache.

    def write(self, found: Discovered) -> None:
        """Remember; a folder that can't be written is no reason to fail."""
        rows = [{k: v for k, v in asdict(replace(r, schema=None)).items() if k != "schema"} for r in found.resources]
        connects = [[kind, name, verb] for (kind, name), verb in found.connects.items()]
        import tempfile

        with suppress(OSError):
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, fresh = tempfile.mkstemp(dir=self.file.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps({"format": _FORMAT, "resources": rows, "connects": connects}))
            Path(fresh).replace(self.file)

    def forget(self) -> None:
        """Something in it was wrong."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)


def _from_row(row: dict[str, Any]) -> Resource:
    scale = row.pop("scale")
    columns = tuple(PrinterColumn(**column) for column in row.pop("columns"))
    tuples: dict[str, Any] = {
        name: tuple(row.pop(name))
        for name in ("short_names", "categories", "subresources", "selectable_fields", "verbs")
    }
    return Resource(**row, **tuples, columns=columns, scale=ScalePaths(**scale) if scale else None)


def api_path(resource: Resource) -> str:
    """`/apis/GROUP/VERSION`, or `/api/v1` for the core group."""
    root = "/apis/" if resource.group else "/api/"
    return root + join_api_version(resource.group, resource.version)
