"""Which scorers are there, and what do they take? From `{scorer, config, sampling}` to what can be applied.

Those that need a model, a dictionary or an expected course are known by name and have no effect here; a name that nobody knows is
refused. Read next: `kastra.agent.scorers.scoring`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kastra.agent.processors.settings import Wrong, flag
from kastra.api.errors import INVALID, Cause
from kastra.api.names import closest

from . import checks, texts
from .sample import Score

KNOWN_ONLY = frozenset(
    {
        "answer-relevancy", "answer-similarity", "faithfulness", "hallucination", "context-precision", "context-recall",
        "context-relevance", "bias", "toxicity", "prompt-alignment", "noise-sensitivity", "rubric", "multi-turn-judge",
        "summarization", "tool-call-accuracy", "trajectory-accuracy", "tone-consistency",
    }
)  # fmt: skip
"""Names that have a meaning elsewhere and no effect here."""

Maker = Callable[[Mapping[str, Any]], Score]


def _plain(score: Score) -> Maker:
    return lambda _config: score


def _similarity(config: Mapping[str, Any]) -> Score:
    return texts.content_similarity(
        fold=flag(config, "ignoreCase", True), squeeze=flag(config, "ignoreWhitespace", True)
    )


SCORERS: Mapping[str, tuple[Maker, tuple[str, ...]]] = {
    "completeness": (_plain(texts.completeness), ()),
    "keyword-coverage": (_plain(texts.keyword_coverage), ()),
    "content-similarity": (_similarity, ("ignoreCase", "ignoreWhitespace")),
    "textual-difference": (_plain(texts.textual_difference), ()),
    "includes": (checks.includes, ("expected", "ignoreCase")),
    "excludes": (checks.excludes, ("unwanted", "ignoreCase")),
    "equals": (checks.equals, ("expected", "ignoreCase")),
    "matches": (checks.matches, ("pattern", "exact")),
    "similarity": (checks.similarity, ("expected", "threshold", "ignoreCase")),
    "calledTool": (checks.called_tool, ("tool", "times")),
    "didNotCall": (checks.did_not_call, ("tool",)),
    "toolOrder": (checks.tool_order, ("tools",)),
    "maxToolCalls": (checks.max_tool_calls, ("max",)),
    "usedNoTools": (_plain(checks.used_no_tools), ()),
    "noToolErrors": (_plain(checks.no_tool_errors), ()),
}
"""By name: what makes it, and its settings."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A scorer as one agent has it.

    Args:
        name: from the catalogue.
        path: where it is declared, such as `spec.scorers[0]`.
        score: looks at an answer.
        rate: share of the answers that it looks at; 1 for all.
    """

    name: str
    path: str
    score: Score
    rate: float = 1.0


def scorers_of(spec: Mapping[str, Any]) -> Iterator[Scorer | Cause]:
    """What the `scorers` of a plain spec mean, or what is wrong with one; without those that are known and have no effect."""
    for index, use in enumerate(spec.get("scorers") or ()):
        path, name = f"spec.scorers[{index}]", str(use["scorer"])
        if name in KNOWN_ONLY:
            continue
        if name not in SCORERS:
            every = (*SCORERS, *sorted(KNOWN_ONLY))
            near = closest(name, every)
            hint = f'; did you mean "{near}"?' if near else f"; there are: {', '.join(SCORERS)}"
            yield _wrong(f"{path}.scorer", f"there is no scorer {name[:63]!r}{hint}")
            continue
        make, settings = SCORERS[name]
        config = dict[str, Any](use.get("config") or {})
        unknown = next((field for field in config if field not in settings), None)
        if unknown is not None:
            known = ", ".join(settings) or "none"
            yield _wrong(f"{path}.config.{unknown}", f"{name} has no such setting; it has: {known}")
            continue
        sampling = use.get("sampling") or {}
        rate = sampling.get("rate")
        sampled = sampling.get("type") == "ratio"
        if sampled and rate is None:
            yield _wrong(f"{path}.sampling.rate", "is required with type ratio: a number from 0 to 1")
            continue
        if rate is not None and not sampled:
            yield _wrong(f"{path}.sampling.type", "must be ratio where there is a rate")
            continue
        try:
            made = make(config)
        except Wrong as error:
            yield _wrong(f"{path}.config{error.path}", error.what)
            continue
        yield Scorer(name, path, made, 1.0 if rate is None else float(rate))


def scorer_findings(spec: Mapping[str, Any]) -> list[Cause]:
    """What is wrong with the scorers of a plain spec."""
    return [found for found in scorers_of(spec) if isinstance(found, Cause)]


def unsupported_scorers(spec: Mapping[str, Any]) -> list[str]:
    """Paths of the scorers that are known and have no effect."""
    return [f"spec.scorers[{at}]" for at, use in enumerate(spec.get("scorers") or ()) if use["scorer"] in KNOWN_ONLY]


def _wrong(path: str, what: str) -> Cause:
    return Cause(INVALID, f"Invalid value: {what}", path)
