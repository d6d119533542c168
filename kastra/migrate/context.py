"""What converters share: the objects made so far, the names that are taken, and the report.

A draft is an object under construction: what it was made from, and where each of its steps stood, so that a refusal of the
finished object can be reported at its place. Read next: a converter, such as `kastra.migrate.agents`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kastra.api.durations import parse_duration
from kastra.manifest.loader import Manifest
from kastra.manifest.position import PathTuple
from kastra.manifest.problem import Problem

from .expressions import Rewritten, rewrite
from .naming import object_name
from .node import Node
from .paths import Scope
from .report import Level, Report
from .secrets import Secrets

ANNOTATION = "mastra.ai/not-migrated"
"""On a stub: what is missing. Controllers make of it the condition NotMigrated."""
CURRENT = "mastra.ai/v1"
_MAX_REASON = 2_000
_COMMON = (
    "apiVersion",
    "kind",
    "metadata",
    "status",
    "id",
    "name",
    "namespace",
    "version",
    "createdAt",
    "updatedAt",
    "labels",
)


@dataclass(slots=True)
class Draft:
    """An object of today's form under construction.

    Args:
        node: what it was made from.
        body: the fields beside apiVersion, kind and metadata.
        places: what parts of it were made from, by path.
        reasons: why it is a stub; empty for one that isn't.
        secret: whether it holds keys, so that it must be readable by its owner alone.
    """

    kind: str
    name: str
    namespace: str
    node: Node
    body: dict[str, Any]
    api_version: str = CURRENT
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    places: dict[PathTuple, Node] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    secret: bool = False

    @property
    def about(self) -> str:
        """`Kind/name`, for the report."""
        return f"{self.kind}/{self.name}"

    @property
    def spec(self) -> dict[str, Any]:
        """Its spec."""
        spec: dict[str, Any] = self.body.setdefault("spec", {})
        return spec

    def to_object(self) -> dict[str, Any]:
        """The object, as it is written."""
        metadata: dict[str, Any] = {"name": self.name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        if self.labels:
            metadata["labels"] = dict(self.labels)
        annotations = dict(self.annotations)
        if self.reasons:
            annotations[ANNOTATION] = "; ".join(dict.fromkeys(self.reasons))[:_MAX_REASON]
        if annotations:
            metadata["annotations"] = annotations
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, **self.body}


@dataclass(slots=True)
class Context:
    """What is known while documents are converted.

    Args:
        fields: of today's specs, by kind.
        check: finds what is wrong with finished objects.
        split: tools that became several, by namespace and name.
        providers: ModelProviders that the input declares, by namespace and name.
        models: Models that the input declares, likewise.
    """

    report: Report
    secrets: Secrets
    fields: Mapping[str, frozenset[str]]
    check: Callable[[Sequence[Manifest]], list[list[Problem]]]
    drafts: dict[tuple[str, str, str], Draft] = field(default_factory=dict)
    split: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    providers: set[tuple[str, str]] = field(default_factory=set)
    models: set[tuple[str, str]] = field(default_factory=set)
    tools: set[tuple[str, str]] = field(default_factory=set)
    agents: set[tuple[str, str]] = field(default_factory=set)

    def draft(
        self, kind: str, name: str, namespace: str, node: Node, spec: dict[str, Any] | None = None
    ) -> Draft | None:
        """A new object; None, with a line of the report, where another one has its name or it can have none."""
        clean = object_name(name)
        if not clean:
            self.report.add(
                "not-migrated",
                node,
                f"{kind}/{name}" if name else kind,
                "has no name that an object can have",
                "give it a name",
            )
            return None
        made = Draft(kind, clean, namespace, node, {"spec": {} if spec is None else spec})
        if (kind, namespace, clean) in self.drafts:
            other = self.drafts[kind, namespace, clean].node
            where = f"{other.origin.file}:{other.mark.line}"
            self.report.add(
                "not-migrated", node, made.about, f"the same name is declared at {where}", "rename one of them"
            )
            return None
        self.drafts[kind, namespace, clean] = made
        return made

    def stub(self, draft: Draft, node: Node, reason: str, advice: str) -> None:
        """Mark an object as not migrated because of what stands at `node`."""
        path = node.field
        self.report.add("not-migrated", node, draft.about, reason, advice)
        draft.reasons.append(self.report.scrub(f"{path}: {reason}" if path else reason))

    def dropped(self, about: str, node: Node, reason: str = "has no counterpart", advice: str = "") -> None:
        """Report a field that is gone."""
        self.report.add("dropped", node, about, reason, advice)

    def note(self, level: Level, about: str, node: Node, message: str, advice: str = "") -> None:
        """Report something else."""
        self.report.add(level, node, about, message, advice)

    def rest(self, node: Node, draft: Draft, scope: Scope | None = None) -> None:
        """Pass on the fields that today's kind has under the same name, and report all others that nobody read."""
        known = self.fields.get(draft.kind, frozenset())
        for left in node.untaken():
            name = str(left.path[-1])
            if name in known and name not in draft.spec:
                draft.spec[name] = self.rewritten(draft, left, scope).value if scope else left.value
                draft.places["spec", name] = left
            elif name not in _COMMON:
                self.dropped(draft.about, left)

    def rewritten(self, draft: Draft, node: Node, scope: Scope, *, variables: bool = True) -> Rewritten:
        """The value at `node` with its expressions rewritten; what could not be is marked and reported."""
        found = rewrite(node.value, scope, variables=variables)
        for guess in dict.fromkeys(found.guessed):
            self.note("note", draft.about, node, guess)
        for failure in dict.fromkeys(found.failed):
            self.stub(draft, node, f"the expression {failure}", "write it as ${{ }} in CEL")
        return found


def duration(node: Node, *, milliseconds: bool) -> str | None:
    """A time of the older dialects; numbers mean milliseconds there. None if it isn't one."""
    value = node.value
    if isinstance(value, str) and value.strip().isdigit() and len(value) < 16:
        value = int(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        if not 0 < value < 10**13:
            return None
        total = round(value) if milliseconds else round(value * 1000)
        return f"{total // 1000}s" if total % 1000 == 0 else f"{total}ms"
    try:
        parse_duration(value)
    except (ValueError, TypeError):
        return None
    return str(value)
