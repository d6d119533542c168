"""Can what an object refers to be used, so that the object itself can be Ready?

What every config kind's controller begins with: `examine` resolves the references of its view and sets the conditions
ResolvedRefs and UnsupportedFeatures; the answer says whether, and why, a dependency isn't Ready. Dependencies may refer
back to the object. That must not make both wait for ever, so a dependency that itself only waits (reason
DependencyNotReady, or not looked at yet) is looked through: what it waits for decides, and the waiting of objects that have
been passed already doesn't count.

Objects that are applied together are looked at in any order. One that is new and only waits for others to be looked at for
the first time (`early`) needs no status yet: their first status brings it back at once, and half of all writes are saved.

Changes nothing but conditions of the pass. Source: readiness of Gateway API and Crossplane resources. Read next:
`controllers/tool.py`, a short user.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from kastra.api.object import Object
from kastra.api.types import Reference
from kastra.clock import parse_rfc3339

from .context import Context
from .reconcile import Result
from .references import Resolution, Resolver
from .views import Referring, Views, references_of

NOT_MIGRATED = "mastra.ai/not-migrated"
"""The annotation of an object that stands for something that `kastra migrate` could not convert; what is missing."""
WAITING = "DependencyNotReady"
"""Reason of Ready=False when nothing is wrong with the object itself."""
CALLABLE = frozenset({"Tool", "Agent", "Workflow", "Network"})
"""Kinds that can stand for each other where something is called by name, as in an agent's tools or a network's members."""

EARLY = 10.0
"""Seconds after its creation in which an object may be without status for as long as others have none."""

_SHOWN = 5


class Obstacle(NamedTuple):
    """Why something can't be used; `unseen` if it just has not been looked at yet."""

    message: str
    unseen: bool = False


@runtime_checkable
class ConfigView(Referring, Protocol):
    """A view of a kind that is configured rather than run."""

    def unsupported(self) -> Sequence[str]:
        """Paths of the fields that are given, accepted, and not acted on."""
        ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What an object refers to, and whether it can be used.

    Args:
        resolution: what the references lead to.
        unready: why something can't be used, by the path of the reference.
        misplaced: references that lead to a kind that can't stand there, with the message.
        early: whether all there is to say is that others have not been looked at yet; `Context.look_later` then.
        not_migrated: what of the object could not be converted; empty for all but stubs of `kastra migrate`.
    """

    resolution: Resolution
    unready: Mapping[str, str]
    misplaced: Sequence[str] = ()
    early: bool = False
    not_migrated: str = ""

    @property
    def reason(self) -> str:
        """Reason of Ready=False; empty if everything can be used."""
        if self.not_migrated:
            return "NotMigrated"
        if not self.resolution.ok:
            return self.resolution.reason
        if self.misplaced:
            return "InvalidKind"
        return WAITING if self.unready else ""

    @property
    def message(self) -> str:
        """What is missing or isn't Ready, the first five; how many references there are if nothing is."""
        if self.not_migrated:
            return self.not_migrated
        if not self.resolution.ok:
            return self.resolution.message
        if self.misplaced:
            return listed(self.misplaced)
        if self.unready:
            return listed([f"{path}: {why}" for path, why in self.unready.items()])
        return self.resolution.message


async def examine(view: ConfigView, ctx: Context, interchangeable: frozenset[str] = frozenset()) -> Dependencies:
    """Resolve what an object refers to and find out whether that is Ready.

    Args:
        view: of the object.
        ctx: of the pass; gets the conditions ResolvedRefs and UnsupportedFeatures.
        interchangeable: kinds that may stand for each other in this object's references.
    """
    references = list(view.references())
    resolution = await ctx.resolve_all(references)
    misplaced = _misplaced(references, resolution, interchangeable)
    if misplaced and resolution.ok:
        ctx.condition("ResolvedRefs", False, "InvalidKind", listed(misplaced))
    report_unsupported(ctx, view.unsupported())
    not_migrated = report_not_migrated(ctx)
    obstacles: dict[str, Obstacle] = {}
    for path, target in resolution.resolved.items():
        found = await obstacle(target, ctx.object, ctx.views, ctx.resolver)
        if found is not None:
            obstacles[path] = found
    unready = {path: found.message for path, found in obstacles.items()}
    early = bool(obstacles) and resolution.ok and all(found.unseen for found in obstacles.values())
    early = early and not misplaced and not not_migrated and is_new(ctx)
    return Dependencies(resolution, unready, misplaced, early, not_migrated)


def is_new(ctx: Context) -> bool:
    """Whether the object was made a moment ago and nothing was said of it yet."""
    created = ctx.object.metadata.get("creationTimestamp")
    if ctx.object.condition("Ready") is not None or not created:
        return False
    return (ctx.clock.now() - parse_rfc3339(created)).total_seconds() < EARLY


def report_unsupported(ctx: Context, fields: Sequence[str]) -> None:
    """Set UnsupportedFeatures: it warns of fields that have no effect, and is False once they are gone."""
    if fields:
        message = f"accepted, but not acted on by this version: {', '.join(fields)}"
        ctx.condition("UnsupportedFeatures", True, "NotActedOn", message)
    elif ctx.object.condition("UnsupportedFeatures") is not None:
        ctx.condition("UnsupportedFeatures", False, "AllActedOn", "every field given has an effect")


def report_not_migrated(ctx: Context) -> str:
    """Set NotMigrated on a stub of `kastra migrate`, and to False once its annotation is gone; what is missing, if it is."""
    given = ctx.object.metadata.get("annotations") or {}
    if missing := given.get(NOT_MIGRATED):
        message = f"{missing}; put it right and remove the annotation {NOT_MIGRATED}"
        ctx.condition("NotMigrated", True, "NotMigrated", message)
        return message
    if ctx.object.condition("NotMigrated") is not None:
        ctx.condition("NotMigrated", False, "Migrated", f"the annotation {NOT_MIGRATED} is gone")
    return ""


def suspended(ctx: Context) -> Result:
    """The end of a pass over an object whose `spec.suspend` is true."""
    return ctx.not_ready("Suspended", "spec.suspend is true; set it to false to use this object again")


async def obstacle(target: Object, referrer: Object, views: Views, resolver: Resolver) -> Obstacle | None:
    """Why `target` can't be used by `referrer`; None if it can, or if all it waits for is the referrer itself.

    Kinds that no view reads (Secret, ConfigMap) can be used once they are there.
    """
    passed = {_key(referrer), _key(target)}
    waiting = deque([target])
    while waiting:
        obj = waiting.popleft()
        view = views.of(obj)
        ready = obj.condition("Ready")
        if view is None or _key(obj) == _key(referrer) or (ready is not None and ready.get("status") == "True"):
            continue
        if ready is not None and ready.get("reason") != WAITING:
            return _because(target, obj, f"{_name(obj)} is not Ready: {ready.get('reason')}: {ready.get('message')}")
        parsed = view.of(obj)
        references = references_of(parsed) or ()
        if ready is None and not references:
            return _because(target, obj, f"{_name(obj)} has not been looked at yet", unseen=True)
        resolution = await resolver.resolve_all(references, obj)
        if not resolution.ok:
            return _because(target, obj, f"{_name(obj)}: {resolution.message}")
        for following in resolution.resolved.values():
            if _key(following) not in passed:
                passed.add(_key(following))
                waiting.append(following)
    return None


def listed(messages: Iterable[str]) -> str:
    """The first five messages as one, and how many more there are."""
    every = list(messages)
    rest = f"; and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return "; ".join(every[:_SHOWN]) + rest


def _misplaced(
    references: Sequence[Reference], resolution: Resolution, interchangeable: frozenset[str]
) -> Sequence[str]:
    found = []
    for reference in references:
        obj = resolution.resolved.get(reference.path)
        if obj is None or obj.kind == reference.kind or {obj.kind, reference.kind} <= interchangeable:
            continue
        found.append(f'{reference.path}: "{reference.name}" is {_name(obj)}, where the kind {reference.kind} is needed')
    return found


def _because(target: Object, obj: Object, why: str, *, unseen: bool = False) -> Obstacle:
    return Obstacle(why if _key(target) == _key(obj) else f"{_name(target)} waits: {why}", unseen)


def _name(obj: Object) -> str:
    return f"{obj.kind} {obj.namespace}/{obj.name}" if obj.namespace else f"{obj.kind} {obj.name}"


def _key(obj: Object) -> tuple[str, str, str]:
    return obj.kind, obj.namespace, obj.name
