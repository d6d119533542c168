"""KnowledgeBase: documents that agents search, by words and by meaning.

How a KnowledgeBase is read, and the controller that has its sources read, portion by portion: at first, when it or a ConfigMap
changes, and now and then. The schema is `crds/knowledgebases.yaml`. Passages are rows, which tools search; what hasn't changed
isn't embedded again. Nothing is searched here.

Read next: `kastra.agent.library`, which does the reading.
"""

from pydantic import Field, StrictBool, StrictInt, StrictStr

from kastra.agent.library import Base, Library, Reading
from kastra.api.durations import parse_duration
from kastra.api.errors import Cause
from kastra.api.types import Reference
from kastra.clock import rfc3339
from kastra.engine.step import StepError
from kastra.model.check import model_findings
from kastra.model.interface import ModelError
from kastra.netguard import Policy
from kastra.netguard.preview import refusal
from kastra.runtime.declarative import Context, controller
from kastra.runtime.readiness import EARLY, Dependencies, examine, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import forbidden, invalid
from kastra.runtime.view_types import Duration, ModelChoice, Ref
from kastra.tool.timeout import within

EVERY = 600.0
"""Seconds between two looks at sources that say nothing of themselves."""
LEAST = 5.0
PATIENCE = 25.0
"""Seconds that one pass reads; the next one goes on."""
RETRY = 60.0
"""Seconds until what failed is tried again."""

_FOR_EVER = 1e9
_OF_READERS = frozenset({"Read", "Reading", "SourceFailed", "EmbedderFailed", "InvalidEmbedder"})


class ConfigMapSource(Fields):
    """A ConfigMap whose keys are documents."""

    name: str


class Source(Fields):
    """Where documents come from."""

    file: StrictStr | None = None
    config_map: ConfigMapSource | None = None
    url: StrictStr | None = None
    allow_private: StrictBool | None = None


class ChunkingSpec(Fields):
    """How documents are cut."""

    max_size: StrictInt | None = None
    overlap: StrictInt | None = None


class KnowledgeBaseSpec(Fields):
    """The normal form of a KnowledgeBase's spec."""

    description: str | None = None
    sources: list[Source] = Field(default_factory=list)
    chunking: ChunkingSpec | None = None
    embedder: ModelChoice | None = None
    model_ref: Ref | None = None
    sync_interval: Duration | None = None
    suspend: bool = False


class KnowledgeBaseView(View, kind="KnowledgeBase"):
    """A KnowledgeBase, read."""

    spec: KnowledgeBaseSpec = Field(default_factory=KnowledgeBaseSpec)

    def references(self) -> list[Reference]:
        """The Model that makes vectors, and ConfigMaps; one of these that isn't there is a source that can't be read."""
        found = []
        if self.spec.model_ref is not None:
            found.append(self.spec.model_ref.to("Model", "spec.modelRef"))
        for number, source in enumerate(self.spec.sources):
            if source.config_map is not None:
                path = f"spec.sources[{number}].configMap"
                found.append(Reference(path, "ConfigMap", source.config_map.name, optional=True))
        return found

    def unsupported(self) -> list[str]:
        """Every field has an effect."""
        return []


def validate(view: KnowledgeBaseView) -> list[Cause]:
    """What is wrong with a KnowledgeBase beyond what its schema says."""
    spec = view.spec
    found: list[Cause] = []
    if spec.embedder is not None:
        if spec.model_ref is not None:
            found.append(forbidden("exactly one of embedder and modelRef", "spec.modelRef"))
        if spec.embedder.provider != "scripted":
            choice = spec.embedder
            found += model_findings(choice.provider, choice.name, choice.parameters, "spec.embedder")
    for number, source in enumerate(spec.sources):
        path, given = f"spec.sources[{number}]", source.file
        if given is not None and (given.startswith(("/", "~")) or ".." in given.replace("\\", "/").split("/")):
            found.append(invalid(given, "must be a path below the project folder, without ..", f"{path}.file"))
        if source.allow_private is not None and source.url is None:
            found.append(forbidden("goes with url", f"{path}.allowPrivate"))
    cut = spec.chunking
    if cut is not None and cut.overlap is not None and cut.overlap * 2 > (cut.max_size or 1200):
        found.append(invalid(cut.overlap, "must be at most half of maxSize", "spec.chunking.overlap"))
    return found


@controller(KnowledgeBaseView, watches=("ConfigMap", "Model", "ModelProvider"), concurrency=2)
async def reconcile(base: KnowledgeBaseView, ctx: Context) -> Result:
    """Have the sources read, and say what they hold."""
    found = await examine(base, ctx)
    if found.early:
        return ctx.look_later(EARLY)
    if base.spec.suspend:
        return suspended(ctx)
    if found.reason:
        return ctx.not_ready(found.reason, found.message)
    for number, source in enumerate(base.spec.sources):
        if source.url is not None:
            why = refusal(source.url, ctx.service(Policy), allow_private=bool(source.allow_private))
            if why is not None:
                return ctx.not_ready("AddressRefused", f"spec.sources[{number}].url: {why}")
    try:
        library = ctx.service(Library)
    except LookupError:
        if _read_elsewhere(ctx):
            return ctx.look_later(RETRY)
        return ctx.not_ready("NoKnowledge", "it is read by the process that owns the store, and not here")
    if library.once and _read_elsewhere(ctx) and ctx.object.is_condition_true("Ready"):
        return ctx.look_later(RETRY)
    try:
        closure = await ctx.closure()
        made = library.base(closure)
    except (StepError, ValueError) as error:
        return ctx.not_ready("InvalidEmbedder", f"spec.embedder: {error}")
    ctx.status.embedder = made.model.rstrip("/") or None
    every = EVERY if base.spec.sync_interval is None else max(LEAST, parse_duration(base.spec.sync_interval))
    reading = library.reading(made, f"{closure.get('hash')} {_config_maps(found)}", every)
    if reading is None:
        # Nothing has changed, and it isn't time to look again.
        return await _told(ctx, library, made, library.last(made.uid), library.due(made.uid))
    try:
        await within(ctx.clock, PATIENCE, lambda: library.go_on(made, reading))
    except TimeoutError:
        # What is done is kept; the document under way is read again.
        reading.slow = True
    except ModelError as error:
        await _count(ctx, library, made)
        ctx.condition("SourcesRead", False, "EmbedderFailed", error.message)
        return ctx.not_ready("EmbedderFailed", error.message, requeue_after=RETRY)
    if not reading.done:
        await _count(ctx, library, made)
        message = f"{len(reading.left)} documents are left to be looked at"
        ctx.condition("SourcesRead", None, "Reading", message)
        if library.last(made.uid) is None:
            return ctx.not_ready("Reading", message, requeue_after=0.001)
        return Result(requeue_after=0.001)
    again = library.finish(made, reading, RETRY if reading.problems else every)
    ctx.status.last_sync = rfc3339(ctx.clock.now())
    return await _told(ctx, library, made, reading, again)


def _read_elsewhere(ctx: Context) -> bool:
    """Whether a process that executes Runs has said how this base is, as it is written now."""
    reason = (ctx.object.condition("Ready") or {}).get("reason")
    return reason in _OF_READERS and ctx.object.status.get("observedGeneration") == ctx.object.generation


async def _told(ctx: Context, library: Library, base: Base, reading: Reading | None, again: float) -> Result:
    await _count(ctx, library, base)
    problems = reading.told() if reading is not None else ""
    ctx.condition("SourcesRead", not problems, "SourceFailed" if problems else "Read", problems)
    if problems and reading is not None and not reading.read:
        return ctx.not_ready("SourceFailed", problems, requeue_after=again)
    if problems or ctx.object.condition("Degraded") is not None:
        ctx.condition("Degraded", bool(problems), "SourceFailed" if problems else "Read", problems)
    ctx.ready(f"{ctx.status.passages} passages", "Read")
    return Result(requeue_after=again)


async def _count(ctx: Context, library: Library, base: Base) -> None:
    tally = await library.tally(base)
    ctx.status.documents, ctx.status.passages = tally.documents, tally.passages
    ctx.status.characters, ctx.status.entries = tally.characters, await library.entries(base)


def _config_maps(found: Dependencies) -> str:
    """Another text for another content of the ConfigMaps that are read."""
    resolved = found.resolution.resolved
    return " ".join(
        f"{path}={resolved[path].uid}/{resolved[path].resource_version}"
        for path in sorted(resolved)
        if resolved[path].kind == "ConfigMap"
    )


@reconcile.finalizer(timeout=_FOR_EVER)
async def erase(base: KnowledgeBaseView, ctx: Context) -> None:
    """Erase its documents, passages, vectors and index entries."""
    try:
        library = ctx.service(Library)
    except LookupError:
        # Whoever has the store erases it.
        raise RuntimeError("this server's store isn't reached from here") from None
    await library.erase(base.metadata.uid)
