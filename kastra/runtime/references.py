"""What does a reference mean, and is it there?

    {name: x, namespace: n}     x in n
    x                           x in the referring object's namespace; inside a System a sibling first
    agents/x                    the part before the slash is a known plural: that kind, own namespace
    n/x                         it isn't: x in namespace n
    n.x                         x in namespace n, unless an object of exactly that name is there

References are stored as written and resolved here, for every controller alike. What doesn't resolve is data, not an
exception: a reason (NotFound, AmbiguousReference, RefNotPermitted, InvalidKind) and a message that names what is missing,
for the condition ResolvedRefs. Nothing is cached beyond the informers.

Read next: `kastra.runtime.closure`, which follows references from object to object.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple

from kastra.api.errors import NotFound
from kastra.api.meta import GROUP, ObjectRef
from kastra.api.object import Object
from kastra.api.scheme import Resource, Scheme
from kastra.api.types import Reference
from kastra.client.interface import Client

from .cache import Cache
from .grants import refusal, says_itself
from .indexer import IndexFunction
from .views import TypedView, references_of

MEMBER_LABEL = "mastra.ai/member"
"""On a child of a System: its name in the System's list, where the object's own name differs."""
INDEX = "references"
"""The index of a kind by what its objects may refer to; values are those of `targets`."""

_SUGGEST_AMONG = 200


class Target(NamedTuple):
    """A place where a reference may lead: `resource` is `agents.mastra.ai`."""

    resource: str
    namespace: str
    name: str


class Missing(NamedTuple):
    """A reference that leads nowhere, or where it may not."""

    reference: Reference
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The outcome for all references of an object.

    Args:
        resolved: objects by the path of the reference.
        missing: what did not resolve, optional references included.
    """

    resolved: Mapping[str, Object] = field(default_factory=dict)
    missing: Sequence[Missing] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that must resolve did."""
        return all(item.reference.optional for item in self.missing)

    @property
    def reason(self) -> str:
        """For a condition: `Resolved`, or why the first required reference didn't."""
        return next((item.reason for item in self.missing if not item.reference.optional), "Resolved")

    @property
    def message(self) -> str:
        """For a condition: how many resolved, or what is missing (the first five)."""
        problems = [item.message for item in self.missing if not item.reference.optional]
        if problems:
            rest = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            return "; ".join(problems[:5]) + rest
        count = len(self.resolved)
        return f"{count} reference{'' if count == 1 else 's'} resolved" if count else "no references"


def tiers(reference: Reference, namespace: str, scheme: Scheme) -> list[list[Target]]:
    """Where `reference`, standing in an object of `namespace`, may lead: the first tier that has an object decides.

    Siblings in a System come before all of these. Empty when the text has no meaning. Raises NotFound: no such kind.
    """
    resource = scheme.find(reference.kind)
    name = reference.name
    if reference.namespace:
        return [[_target(resource, reference.namespace, name)]]
    head, slash, rest = name.partition("/")
    if slash:
        if not head or not rest or "/" in rest:
            return []
        kinds = {r.group_resource: r for r in scheme if r.plural == head}
        if kinds:
            return [[_target(kind, namespace, rest) for kind in kinds.values()]]
        return [[_target(resource, head, rest)]]
    found = [[_target(resource, namespace, name)]]
    head, dot, rest = name.partition(".")
    if dot and head and rest and resource.namespaced:
        found.append([_target(resource, head, rest)])
    return found


def _target(resource: Resource, namespace: str, name: str) -> Target:
    return Target(resource.group_resource, namespace if resource.namespaced else "", name)


def system_of(obj: Object) -> str:
    """The uid of the System that `obj` is a child of; empty if none."""
    for owner in obj.owner_references:
        if owner.get("kind") == "System" and str(owner.get("apiVersion", "")).startswith(f"{GROUP}/"):
            return str(owner.get("uid", ""))
    return ""


class Resolver:
    """Resolves references.

    Args:
        client: asked for what no cache has. What a cache misses is asked for too: it may be a moment behind.
        cache: read first; None to read everything from the server, as a Run does when it starts.
    """

    def __init__(self, client: Client, cache: Cache | None = None) -> None:
        self._client = client
        self._cache = cache

    async def find(self, target: Target) -> Object | None:
        """The object there, or None."""
        resource, namespace, name = target
        informer = self._cache.find(resource) if self._cache is not None else None
        if informer is not None and informer.covers(namespace):
            known = informer.lister.get(namespace, name)
            if known is not None:
                return known
        try:
            return await self._client.get(ObjectRef(resource, name, namespace))
        except NotFound:
            return None

    async def resolve(self, reference: Reference, referrer: Object) -> Object | Missing:
        """The object that `reference` in `referrer` means, or why there is none."""
        namespace = referrer.namespace
        try:
            places = tiers(reference, namespace, self._client.scheme)
        except NotFound:
            return Missing(reference, "InvalidKind", f'{reference.path}: there is no kind "{reference.kind}"')
        if not places:
            message = f'{reference.path}: "{reference.name}" is no reference; write name, namespace/name or plural/name'
            return Missing(reference, "NotFound", message)
        found: list[Object] = []
        if not reference.namespace and "/" not in reference.name and (system := system_of(referrer)):
            found = await self._siblings(places[0][0], system)
        for tier in places:
            if not found:
                found = [obj for place in tier if (obj := await self.find(place)) is not None]
        if not found:
            return Missing(reference, "NotFound", f"{reference.path}: {await self._nothing_at(places)}")
        if len(found) > 1:
            where = " and ".join(f"{obj.kind} {obj.namespace}/{obj.name} ({obj.api_version})" for obj in found)
            message = f'{reference.path}: "{reference.name}" could mean {where}'
            return Missing(reference, "AmbiguousReference", message)
        target = found[0]
        if target.namespace in ("", namespace):
            return target
        refused = await self._refusal(target, namespace)
        return target if refused is None else Missing(reference, "RefNotPermitted", f"{reference.path}: {refused}")

    async def resolve_all(self, references: Iterable[Reference], referrer: Object) -> Resolution:
        """All of them. Repeated references are looked up once."""
        resolved: dict[str, Object] = {}
        missing: list[Missing] = []
        seen: dict[tuple[str, str, str], Object] = {}
        for reference in references:
            same = (reference.kind, reference.namespace, reference.name)
            outcome = seen.get(same) or await self.resolve(reference, referrer)
            if isinstance(outcome, Missing):
                missing.append(outcome)
            else:
                resolved[reference.path] = seen[same] = outcome
        return Resolution(resolved, missing)

    async def _siblings(self, place: Target, system: str) -> list[Object]:
        informer = self._cache.find(place.resource) if self._cache is not None else None
        if informer is not None:
            children: Sequence[Object] = informer.lister.owned_by(system)
        else:
            page = await self._client.list(place.resource, place.namespace)
            children = [obj for obj in page.items if system_of(obj) == system]
        return [
            obj
            for obj in children
            if obj.namespace == place.namespace and place.name in (obj.name, obj.labels.get(MEMBER_LABEL))
        ]

    async def _refusal(self, target: Object, namespace: str) -> str | None:
        theirs = ours = None
        if says_itself(target):
            ours = await self.find(Target("namespaces", "", namespace))
        else:
            theirs = await self.find(Target("namespaces", "", target.namespace))
        return refusal(target, namespace, theirs, ours)

    async def _nothing_at(self, places: Sequence[Sequence[Target]]) -> str:
        parts = []
        for tier in places:
            for resource, namespace, name in tier:
                kind = self._client.scheme.find(resource).kind
                parts.append(f'{kind} "{name}"' + (f' in namespace "{namespace}"' if namespace else ""))
        hint = self._suggestion(places[0][0])
        return f"no {' and no '.join(parts)}{hint}"

    def _suggestion(self, place: Target) -> str:
        informer = self._cache.find(place.resource) if self._cache is not None else None
        if informer is None or len(informer.indexer) > _SUGGEST_AMONG:
            return ""
        names = [obj.name for obj in informer.lister.list(place.namespace)]
        close = get_close_matches(place.name, names, n=1, cutoff=0.6)
        return f'; did you mean "{close[0]}"?' if close else ""


# ---- who refers to an object? an index over the informers


def reference_index(view: type[TypedView], scheme: Scheme) -> IndexFunction:
    """An index function for objects read by `view`: by everything that their references may mean."""

    def values(obj: Object) -> Iterable[str]:
        try:
            parsed = view.of(obj)
        except ValueError:
            return ()
        return _values_of(references_of(parsed) or (), obj.namespace, scheme)

    return values


def _values_of(references: Iterable[Reference], namespace: str, scheme: Scheme) -> Iterable[str]:
    values: list[str] = []
    for reference in references:
        try:
            places = tiers(reference, namespace, scheme)
        except NotFound:
            continue
        values.extend("/".join(place) for tier in places for place in tier)
    return values


def references_unchanged(old: Object, new: Object) -> bool:
    """Whether a change can't have touched the object's references: same object, same generation."""
    before, after = old.metadata, new.metadata
    return bool(after.get("generation")) and all(before.get(k) == after.get(k) for k in ("generation", "uid"))


def targets(obj: Object, resource: str) -> list[str]:
    """The values of `INDEX` under which the objects that refer to `obj` are found."""
    values = [f"{resource}/{obj.namespace}/{obj.name}"]
    member = obj.labels.get(MEMBER_LABEL)
    if member is not None and member != obj.name:
        values.append(f"{resource}/{obj.namespace}/{member}")
    return values


def referrers(cache: Cache, kind: str, target_kind: str) -> Callable[[Object], Iterable[Object]]:
    """A function from an object of `target_kind` to the objects of `kind` that may refer to it."""
    lister = cache.lister(kind)

    def find(obj: Object) -> Iterable[Object]:
        resource = cache.key(target_kind)
        found = {(o.namespace, o.name): o for value in targets(obj, resource) for o in lister.by_index(INDEX, value)}
        return found.values()

    return find
