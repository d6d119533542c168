"""From paths to finished objects: reads, tells what is current already, converts kind by kind, checks.

Objects that others refer to are converted first, since their names decide how a reference is written: providers and models,
then tools, agents, workflows, networks. Read next: `kastra.migrate.write`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from kastra.manifest.legacy import convert_definition, is_old_definition
from kastra.manifest.loader import Manifest
from kastra.manifest.problem import Problem

from . import agents, dynamic, models, networks, tools, workflows
from .containers import POD, Item, items_of
from .context import ANNOTATION, CURRENT, Context, Draft
from .expressions import rewrite
from .naming import object_name
from .node import Node
from .paths import Scope
from .repair import make_valid
from .report import Report
from .secrets import Secrets
from .serverless import document as serverless
from .sources import Reader, Source, Unreadable

Check = Callable[[Sequence[Manifest]], list[list[Problem]]]
"""What `kastra validate` finds wrong with manifests, for each of them."""

_ORDER = (
    "Namespace",
    "Secret",
    "ConfigMap",
    "Provider",
    "ModelProvider",
    "LLM",
    "Model",
    "Tool",
    "Agent",
    "Workflow",
    "Dynamic",
    "ServerlessWorkflow",
    "Network",
    "System",
)
_OPAQUE = frozenset({"python", "process", "inputSchema", "outputSchema", "schema", "data", "stringData", "command"})
_MAX_OBJECTS = 10_000
_MAX_KEYS = 2_000


@dataclass(frozen=True, slots=True)
class Migration:
    """What came of it.

    Args:
        objects: converted, by kind, namespace and name.
        unchanged: `Kind/name` of the objects that were of today's form already.
        files: that were read.
    """

    objects: list[Draft]
    unchanged: list[str]
    files: list[str]
    report: Report


def migrate(
    paths: Iterable[str],
    *,
    fields: Mapping[str, frozenset[str]],
    check: Check,
    stdin: BinaryIO | None = None,
    write_secrets: bool = False,
    dialect: str = "",
) -> Migration:
    """Convert everything that `paths` hold.

    Args:
        paths: files, folders, globs, or `-`.
        fields: of the specs of today's kinds.
        check: says what is wrong with manifests.
        stdin: what `-` reads; the process's by default.
        write_secrets: whether Secrets hold the keys of the input instead of a placeholder.
        dialect: `serverless-workflow` where all documents must be of that language; told from each document if empty.

    Raises:
        Unreadable: an input isn't there or can't be decoded.
    """
    secrets = Secrets(write_secrets)
    report = Report(secrets.scrub)
    ctx = Context(report, secrets, fields, check)
    reader = Reader(stdin)
    sources = list(reader.documents(paths))
    if dialect == serverless.DIALECT:
        sources = [source for source in sources if _of_serverless(ctx, source)]
    unchanged, old = _divided(ctx, sources)
    items = [item for source in old for item in items_of(ctx, reader, source)]
    if len(items) > _MAX_OBJECTS:
        raise Unreadable(f"more than {_MAX_OBJECTS:,} objects; convert them in parts")
    if len(secrets.known) > _MAX_KEYS:
        raise Unreadable(f"more than {_MAX_KEYS:,} keys; convert them in parts")
    _announce(ctx, items)
    for item in sorted(items, key=_rank):
        before = set(ctx.drafts)
        _convert(ctx, item)
        for key in ctx.drafts.keys() - before:
            if ctx.drafts[key].kind == item.kind and ctx.drafts[key].name == object_name(item.name):
                ctx.drafts[key].labels.update(item.labels)
                ctx.drafts[key].annotations.update(
                    {name: text for name, text in item.annotations.items() if name != ANNOTATION}
                )
    make_valid(ctx)
    objects = sorted(ctx.drafts.values(), key=lambda draft: (draft.kind, draft.namespace, draft.name))
    return Migration(objects, unchanged, reader.files, report)


def _of_serverless(ctx: Context, source: Source) -> bool:
    if serverless.is_document(source.node.value):
        return True
    ctx.note("not-migrated", "", source.node, "it is no serverless workflow: it lacks document.dsl", "leave out --from")
    return False


def _rank(item: Item) -> int:
    return _ORDER.index(item.kind) if item.kind in _ORDER else len(_ORDER)


def _announce(ctx: Context, items: list[Item]) -> None:
    """Names that references may lead to, before the first reference is read."""
    for item in items:
        known = {"Tool": ctx.tools, "Agent": ctx.agents, "LLM": ctx.models, "Model": ctx.models}.get(item.kind)
        if known is not None:
            known.add((item.namespace, object_name(item.name)))


def _divided(ctx: Context, sources: list[Source]) -> tuple[list[str], list[Source]]:
    """What is of today's form already, and the documents that are not."""
    likely = [source for source in sources if _has_form(source.node.value)]
    errors = ctx.check([source.manifest for source in likely])
    current = {
        id(source)
        for source, found in zip(likely, errors, strict=True)
        if not any(p.severity == "error" for p in found)
    }
    unchanged, old = [], []
    for source in sources:
        value = source.node.value
        if id(source) in current and not _has_old_expressions(value):
            unchanged.append(f"{value['kind']}/{value['metadata'].get('name', '')}")
        else:
            old.append(source)
    return unchanged, old


def _has_form(value: Any) -> bool:
    """Whether the checks can look at a document at all."""
    if not isinstance(value, dict) or not all(
        isinstance(value.get(key), str) and value[key] for key in ("apiVersion", "kind")
    ):
        return False
    metadata = value.get("metadata")
    return (
        value["kind"] != POD
        and not is_old_definition(value)
        and isinstance(metadata, dict)
        and isinstance(metadata.get("name"), str)
        and isinstance(metadata.get("namespace", ""), str)
    )


def _has_old_expressions(value: Any) -> bool:
    """Whether an object that is valid today holds expressions of yesterday; a stub has been looked at before."""
    annotations = value["metadata"].get("annotations") or {}
    if value["apiVersion"] != CURRENT or ANNOTATION in annotations:
        return False
    spec = _transparent(value.get("spec"))
    found = rewrite(spec, Scope(), variables=False)
    return bool(found.value != spec or found.failed)


def _transparent(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _transparent(item) for key, item in value.items() if key not in _OPAQUE}
    return [_transparent(item) for item in value] if isinstance(value, list) else value


def _convert(ctx: Context, item: Item) -> None:
    node, name, namespace = item.node, item.name, item.namespace
    if item.kind == "Provider" or item.kind == "ModelProvider":
        item.kind = "ModelProvider"
        made = models.provider(ctx, node, name, namespace)
        if made is not None:
            ctx.providers.add((namespace, made.name))
    elif item.kind == "LLM" or (item.kind == "Model" and not node.has("providerRef")):
        item.kind = "Model"
        models.llm(ctx, node, name, namespace)
    elif item.kind == "Tool":
        tools.tool(ctx, node, name, namespace)
    elif item.kind == "Agent":
        agents.agent(ctx, node, name, namespace)
    elif item.kind == "ServerlessWorkflow":
        item.kind = "Workflow"
        serverless.workflow(ctx, node, name, namespace)
    elif item.kind == "Workflow" and isinstance(node.peek("graph"), list):
        dynamic.dynamic_workflow(ctx, node, name, namespace)
    elif item.kind == "Dynamic":
        item.kind = "Workflow"
        dynamic.dynamic_workflow(ctx, node, name, namespace)
    elif item.kind == "Workflow":
        workflows.workflow(ctx, node, name, namespace)
    elif item.kind == "Network":
        networks.network(ctx, node, name, namespace)
    elif item.kind in ("Model", "System"):
        draft = ctx.draft(item.kind, name, namespace, node)
        if draft is not None:
            ctx.rest(node, draft)
    elif item.kind in ("Secret", "ConfigMap"):
        _data(ctx, item)
    elif item.kind == "Namespace":
        draft = ctx.draft("Namespace", name, "", node)
        if draft is not None:
            draft.api_version, draft.body = "v1", {}
    elif is_old_definition(node.value):
        _definition(ctx, node)
    else:
        _unknown(ctx, item)


def _unknown(ctx: Context, item: Item) -> None:
    about = f"{item.kind}/{item.name}" if item.name else item.kind
    if item.kind in ctx.fields:
        message, advice = "it isn't valid, and its kind has no older form", "see what `kastra validate` says of it"
    else:
        message, advice = f"there is no kind {item.kind} to convert it to", "write by hand what it was for"
    ctx.note("not-migrated", about, item.node, message, advice)


def _definition(ctx: Context, node: Node) -> None:
    converted, _ = convert_definition(node.value)
    name = converted.get("metadata", {}).get("name") if isinstance(converted.get("metadata"), dict) else None
    draft = ctx.draft("CustomResourceDefinition", name if isinstance(name, str) else "", "", node)
    if draft is not None:
        draft.api_version, draft.body = "apiextensions.k8s.io/v1", {"spec": converted.get("spec") or {}}


def _data(ctx: Context, item: Item) -> None:
    """Secrets and ConfigMaps of the older apiVersion; a Secret's values are keys."""
    node = item.node
    if item.kind == "ConfigMap":
        draft = ctx.draft("ConfigMap", item.name, item.namespace, node)
        values = node.get("data") or node.get("spec")
        if draft is not None:
            draft.api_version, draft.body = "v1", {"data": {}}
            for key, value in values.entries() if values is not None else ():
                draft.body["data"][key] = value.value if isinstance(value.value, str) else str(value.value)
        return
    found = False
    for part in ("stringData", "data", "spec"):
        values = node.get(part)
        if values is None or not isinstance(values.value, dict):
            continue
        inner = values.get("stringData", "data") if part == "spec" else None
        for key, value in (inner or values).entries():
            if isinstance(value.value, (str, int, float)) and not isinstance(value.value, bool):
                decoded = _decoded(value) if part == "data" else value
                ctx.secrets.source(ctx, decoded, object_name(item.name) or "secret", item.namespace, key)
                found = True
            else:
                ctx.dropped(f"Secret/{item.name}", value, "is no text")
    if not found:
        ctx.note("not-migrated", f"Secret/{item.name}", node, "it holds nothing", "create the Secret")


def _decoded(node: Node) -> Node:
    """A value of `data`, which is base64 as everywhere; as it stands where it isn't."""
    import base64
    import binascii

    try:
        text = base64.b64decode(node.text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return node
    return Node(text or node.text, node.origin, node.path)
