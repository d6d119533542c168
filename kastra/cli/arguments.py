"""Which objects does the user mean? kubectl's argument grammar.

    get agents            all of a kind          get agents,tools       of several kinds
    get ag x y            by name                get agent/x tool/y     of several kinds by name
    get kastra            a category             get all                every kind of Kastra's

Nothing here prints. Read next: `kastra.cli.output`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kastra.api.errors import NotFound, StatusError
from kastra.api.meta import ObjectRef
from kastra.api.names import closest

if TYPE_CHECKING:
    from kastra.api.object import Object
    from kastra.api.scheme import Resource, Scheme
    from kastra.client.interface import Reader

ALL = "all"
"""The category of everything that people work with; ours unless a kind claims it."""

CATEGORY = "kastra"


@dataclass(frozen=True, slots=True)
class Target:
    """Objects of one kind: those named, or all if `names` is empty."""

    resource: "Resource"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Where and which.

    Args:
        namespace: of namespaced kinds; None for all.
        label_selector: narrows kinds, not names.
        field_selector: likewise.
    """

    namespace: str | None
    label_selector: str = ""
    field_selector: str = ""


@dataclass(slots=True)
class Found:
    """Objects of one kind, with what was not found of those named.

    Args:
        resource_version: at which a list was made; empty for objects got by name.
    """

    resource: "Resource"
    objects: "list[Object]" = field(default_factory=list)
    errors: list[StatusError] = field(default_factory=list)
    resource_version: str = ""


def find_resource(scheme: "Scheme", name: str) -> "Resource":
    """The kind that a user calls `name`.

    Raises:
        ValueError: there is none; with a suggestion where one is near.
    """
    try:
        return scheme.find(name)
    except NotFound as error:
        near = closest(name, scheme.names())
        hint = f'; did you mean "{near}"?' if near is not None else ""
        raise ValueError(f"{error.message}{hint}") from None


def parse_targets(scheme: "Scheme", arguments: Sequence[str]) -> list[Target]:
    """The kinds and names of positional arguments.

    Raises:
        ValueError: they follow no form that the module's docstring lists, or name a kind that isn't there.
    """
    if not arguments:
        raise ValueError('You must specify the type of resource. "kastra api-resources" lists them all.')
    if any("/" in argument for argument in arguments):
        return _slashed(scheme, arguments)
    names = tuple(arguments[1:])
    if any(not name for name in arguments):
        raise ValueError("a kind or name can't be empty")
    resources: list[Resource] = []
    for kind in filter(None, arguments[0].split(",")):
        members = category(scheme, kind)
        if members and names:
            raise ValueError(f'"{kind}" is a category of kinds, of which none can be got by name')
        resources += members or [find_resource(scheme, kind)]
    return [Target(resource, names) for resource in dict.fromkeys(resources)]


def parse_one(scheme: "Scheme", arguments: Sequence[str]) -> tuple["Resource", str]:
    """The one object of `KIND/NAME` or `KIND NAME`. Raises ValueError."""
    targets = parse_targets(scheme, arguments)
    if len(targets) != 1 or len(targets[0].names) != 1:
        raise ValueError("exactly one object is needed: write KIND/NAME")
    return targets[0].resource, targets[0].names[0]


def _slashed(scheme: "Scheme", arguments: Sequence[str]) -> list[Target]:
    targets: list[Target] = []
    for argument in arguments:
        kind, slash, name = argument.partition("/")
        if not slash:
            raise ValueError(
                "there is no need to specify a resource type as a separate argument when passing arguments in "
                f"resource/name form (e.g. 'kastra get resource/<name>'): {argument}"
            )
        if not kind or not name or "/" in name:
            raise ValueError(f'"{argument}": arguments in resource/name form must have a single resource and name')
        resource = find_resource(scheme, kind)
        if targets and targets[-1].resource == resource:
            targets[-1] = Target(resource, (*targets[-1].names, name))
        else:
            targets.append(Target(resource, (name,)))
    return targets


def category(scheme: "Scheme", name: str) -> "list[Resource]":
    """The kinds of a category, in alphabetical order; none if there is no such category."""
    wanted = name.lower()
    kinds = {r.group_resource: r for r in reversed(list(scheme)) if wanted in r.categories}
    if not kinds and wanted == ALL:
        return category(scheme, CATEGORY)
    return [kinds[key] for key in sorted(kinds)]


def resources_once(scheme: "Scheme") -> "list[Resource]":
    """Each kind in one version only, by name."""
    kinds = {r.group_resource: r for r in reversed(list(scheme))}
    return [kinds[key] for key in sorted(kinds)]


async def fetch(client: "Reader", targets: Iterable[Target], scope: Scope) -> list[Found]:
    """The objects meant, kind by kind. What is named and not there is an error in the result.

    Raises:
        ValueError: names together with a selector, or with all namespaces.
    """
    found: list[Found] = []
    for target in targets:
        kind = target.resource.group_resource
        group = Found(target.resource)
        if not target.names:
            page = await client.list(
                kind, scope.namespace, label_selector=scope.label_selector, field_selector=scope.field_selector
            )
            group.objects += page.items
            group.resource_version = page.resource_version
        elif scope.label_selector or scope.field_selector:
            raise ValueError("name cannot be provided when a selector is specified")
        elif scope.namespace is None and target.resource.namespaced:
            raise ValueError("a resource cannot be retrieved by name across all namespaces")
        for name in target.names:
            try:
                group.objects.append(await client.get(ref_of(target.resource, name, scope.namespace or "")))
            except NotFound as error:
                group.errors.append(error)
        found.append(group)
    return found


def ref_of(resource: "Resource", name: str, namespace: str) -> ObjectRef:
    """The address of an object by its kind."""
    return ObjectRef(resource.group_resource, name, namespace if resource.namespaced else "")


def display(resource: "Resource") -> str:
    """How results call a kind: `agent.mastra.ai`, or just `namespace` in the core group."""
    return f"{resource.kind.lower()}.{resource.group}" if resource.group else resource.kind.lower()


def display_object(scheme: "Scheme", ref: ObjectRef) -> str:
    """How results call an object: `agent.mastra.ai/x`."""
    kind, _, group = ref.kind.partition(".")
    try:
        return f"{display(scheme.find(ref.kind))}/{ref.name}"
    except NotFound:
        return f"{kind.lower()}{'.' if group else ''}{group}/{ref.name}"
