"""Everything an object needs in order to run, as one piece of plain data.

Starts at an object and follows the references of its view, and theirs. Agents, tools, models and providers come in whole;
a Workflow or a Network that is referred to comes in as it is but is not followed, since it executes as a Run of its own and
resolves when that starts. Kinds without a view (Secret, ConfigMap) stay references, so no secret value can get in. The
hash is over the canonical JSON of all that, and names the revision of what a Run executes.

Read next: `kastra.api.types.Closure`, the result.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson

from kastra.api.object import Object
from kastra.api.types import Closure, ClosureObject, Reference, closure_id

from .references import Missing, Resolution, Resolver
from .views import TypedView, Views, references_of

LEAVES = frozenset({"Workflow", "Network"})
"""Kinds that execute as Runs of their own and are therefore not followed unless they are the root."""


_KEPT = 1024


class UnresolvedReferences(Exception):
    """A closure can't be built: something that must be there isn't.

    Args:
        missing: what, and why.
    """

    def __init__(self, missing: Sequence[Missing]) -> None:
        self.missing = tuple(missing)
        self.resolution = Resolution(missing=self.missing)
        super().__init__(self.resolution.message)


class Readings:
    """What objects said when they were read last. A spec that hasn't changed needn't be read again; closures share their parts."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int | str, type], tuple[Mapping[str, Any], Sequence[Reference] | None]] = (
            OrderedDict()
        )

    def of(self, obj: Object, view: type[TypedView]) -> tuple[Mapping[str, Any], Sequence[Reference] | None]:
        """The plain spec of an object and its references; None if its kind has none. Raises pydantic's ValidationError."""
        # Of an object that has a generation, this rises with its spec; the status changes with every Run.
        metadata = obj.metadata
        key = (metadata.get("uid", ""), metadata.get("generation") or metadata.get("resourceVersion", ""), view)
        found = self._kept.get(key)
        if found is None or not all(key):
            parsed: Any = view.of(obj)
            spec: Mapping[str, Any] = parsed.spec.plain()
            found = self._kept[key] = (spec, references_of(parsed))
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found


async def closure(root: Object, views: Views, resolver: Resolver, readings: Readings | None = None) -> Closure:
    """The closure of `root`.

    Args:
        readings: of earlier closures.

    Raises:
        UnresolvedReferences: a reference that isn't optional doesn't resolve, at any depth; all of them are named.
        KeyError: no view reads the kind of `root`.
        ValueError: an object has no shape that its view accepts (pydantic's ValidationError).
    """
    root_view = views.of(root)
    if root_view is None:
        raise KeyError(f"no view reads kind {root.kind}, so there is nothing to resolve in {root.name}")
    root_id = _id(root)
    objects: dict[str, ClosureObject] = {}
    missing: list[Missing] = []
    waiting = deque([(root_id, root, root_view)])
    readings = readings or Readings()
    while waiting:
        own_id, obj, view = waiting.popleft()
        if own_id in objects:
            continue
        spec, references = readings.of(obj, view)
        refs: dict[str, str] = {}
        if references and (own_id == root_id or obj.kind not in LEAVES):
            resolution = await resolver.resolve_all(references, obj)
            missing += [_located(item, obj, root) for item in resolution.missing if not item.reference.optional]
            for path, target in resolution.resolved.items():
                target_view = views.of(target)
                if target_view is not None:
                    target_id = refs[path] = _id(target)
                    waiting.append((target_id, target, target_view))
        metadata = obj.metadata
        objects[own_id] = ClosureObject(
            kind=obj.kind,
            namespace=metadata.get("namespace", ""),
            name=metadata.get("name", ""),
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 0),
            spec=spec,
            refs=refs,
        )
    if missing:
        raise UnresolvedReferences(missing)
    found = Closure(root=root_id, objects=objects)
    found["hash"] = closure_hash(found)
    return found


def closure_hash(found: Closure) -> str:
    """`sha256:` over the canonical JSON (sorted keys, no spaces, UTF-8) of a closure without its hash."""
    body = {"root": found["root"], "objects": found["objects"]}
    return "sha256:" + sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _id(obj: Object) -> str:
    return closure_id(obj.kind, obj.namespace, obj.name)


def _located(item: Missing, obj: Object, root: Object) -> Missing:
    if obj.ref == root.ref:
        return item
    return item._replace(message=f"{obj.kind} {obj.namespace}/{obj.name}: {item.message}")
