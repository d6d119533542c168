"""Which processors are there, and what do they take? From `{id, config}` to what can be applied.

Everything that can be said of a declaration is said here, to whoever applies a manifest: an id that nobody knows, a setting
that there isn't, a pattern that doesn't compile. Read next: `kastra.agent.processors.guards`, which applies them.
"""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from kastra.api.names import closest

from .interface import Found, Processor, Scan
from .judging import LANGUAGE_STRATEGIES, Judge, classifying, moderating, speaking
from .patterns import INJECTION, PII, PRESETS, WINDOWS, Rule, passages, rule, scanning, words
from .settings import Wrong, flag, one_of, text, texts, whole
from .shaping import SHAPERS, Shape, shape

PHASES = ("input", "output", "all")
MEMORY = frozenset({"message-history", "semantic-recall", "working-memory"})
"""Ids that are another way to write `spec.memory`, which is where they are read."""

PARTS = ("text", "reasoning", "arguments")
"""What an answer consists of, for processors of the output."""
_WIDEST = 10_000
_STRATEGIES = ("block", "redact", "warn")
_MEANT: Mapping[str, Any] = {"detect": "warn", "translate": "redact"}
_COMMON = frozenset({"strategy", "phase", "retry"})


def _rules(config: Mapping[str, Any]) -> Scan:
    presets = config.get("presets") or []
    presets = [presets] if isinstance(presets, str) else presets
    given = config.get("rules") or []
    if not isinstance(presets, list) or not isinstance(given, list) or not (presets or given):
        raise Wrong("", "needs rules, or presets: pii, secrets, urls")
    found: list[Rule] = []
    for index, name in enumerate(presets):
        if not isinstance(name, str) or name not in PRESETS:
            raise Wrong(f".presets[{index}]", f"must be one of {', '.join(PRESETS)}")
        found += PRESETS[name]
    for index, one in enumerate(given):
        one = {"pattern": one} if isinstance(one, str) else one
        if not isinstance(one, Mapping) or not isinstance(one.get("pattern"), str) or not one["pattern"]:
            raise Wrong(f".rules[{index}]", "must be a pattern, or {name, pattern, replacement}")
        name = str(one.get("name") or f"rule-{index}")[:63]
        try:
            found.append(rule(name, one["pattern"], str(one.get("replacement") or "")))
        except ValueError as error:
            raise Wrong(f".rules[{index}].pattern", str(error)) from None
    return scanning(found)


def _pii(config: Mapping[str, Any]) -> Scan:
    known = [each.name for each in PII]
    types = config.get("types") or known
    if not isinstance(types, list) or not all(each in known for each in types):
        raise Wrong(".types", f"must be a list of {', '.join(known)}")
    return scanning([each for each in PII if each.name in types])


def _normal(config: Mapping[str, Any]) -> Scan:
    form = config.get("form", "NFKC")
    if form not in ("NFC", "NFKC"):
        raise Wrong(".form", "must be NFC or NFKC")

    def scan(text: str, _instructions: str) -> tuple[str, Found]:
        if text.isascii() and text.isprintable():
            return text, {}
        made = unicodedata.normalize(form, text)
        kept = (
            char
            for char in made
            if char in "\n\t\u200c\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cs")
        )
        return "".join(kept), {}

    return scan


def _longest(config: Mapping[str, Any]) -> Scan:
    limit = whole(config, "max")

    def scan(text: str, _instructions: str) -> tuple[str, Found]:
        return (text, {}) if len(text) <= limit else (text[:limit], {"length": 1})

    return scan


def _moderation(config: Mapping[str, Any]) -> Scan | None:
    listed = config.get("words")
    if listed is None and config.get("model") is None:
        raise Wrong("", "needs words, or a model that judges")
    if listed is None:
        return None
    if not isinstance(listed, list) or not listed or not all(isinstance(word, str) and word for word in listed):
        raise Wrong(".words", "must be a list of words")
    return words(listed)


def _nothing(_config: Mapping[str, Any]) -> None:
    return None


_MAKERS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Scan | None], str, str, frozenset[str]]] = {
    "unicode-normalizer": (_normal, "redact", "all", frozenset({"form"})),
    "regex-filter": (_rules, "block", "all", frozenset({"rules", "presets", "window", "parts"})),
    "pii-detector": (_pii, "redact", "all", frozenset({"types", "parts"})),
    "prompt-injection-detector": (lambda _: scanning(INJECTION), "block", "input", frozenset({"parts"})),
    "system-prompt-scrubber": (lambda _: passages, "redact", "output", frozenset({"parts"})),
    "moderation": (_moderation, "block", "all", frozenset({"words", "model", "categories", "parts"})),
    "length-limiter": (_longest, "block", "all", frozenset({"max"})),
    "language-detector": (
        _nothing,
        "detect",
        "input",
        frozenset({"model", "targetLanguages", "threshold", "minTextLength", "instructions"}),
    ),
    "classifier": (
        _nothing,
        "block",
        "all",
        frozenset(
            {
                "model", "questions", "blockIf", "blockUnless", "reason", "action", "errorStrategy", "lastMessageOnly",
                "maxInputLength",
            }
        ),
    ),
    "token-limiter": (_nothing, "redact", "input", frozenset({"limit"})),
    "tool-call-filter": (_nothing, "redact", "input", frozenset({"exclude"})),
}  # fmt: skip
"""By id: what makes its scan, its strategy, where it makes sense, its settings."""

_JUDGES: Mapping[str, Callable[[Mapping[str, Any]], Judge | None]] = {
    "moderation": moderating,
    "language-detector": speaking,
    "classifier": classifying,
}

IDS = tuple(_MAKERS)
REWRITES = frozenset({"unicode-normalizer", "token-limiter", "tool-call-filter"})
"""Those that only change what is sent: they stop nothing, so they are no guardrails."""


def declare(use: Mapping[str, Any], path: str, side: str) -> Processor | Shape:
    """What a declaration means, whichever it is of.

    Args:
        use: `{id, config}`.
        path: of the declaration, for messages.
        side: the list in which it stands: `input`, `output`, `error` or `guardrails`.

    Raises:
        ValueError: it means nothing; the message begins with the path of what is wrong.
    """
    id_ = str(use.get("id"))
    if id_ in SHAPERS:
        return shape(use, path, side)
    if side == "error":
        known = [name for name, shaper in SHAPERS.items() if "error" in shaper.sides]
        raise ValueError(f"{path}.id: there is no processor of errors {id_[:63]!r}; there are: {', '.join(known)}")
    guardrail = side == "guardrails"
    return make(use, path, guardrail=guardrail, side="" if guardrail else side)


def make(use: Mapping[str, Any], path: str, *, guardrail: bool = False, side: str = "") -> Processor:
    """The processor that a declaration means.

    Args:
        use: `{id, config}`.
        path: of the declaration, for messages.
        guardrail: whether it can only stop a call: its strategy is then `block`.
        side: the list in which it stands, for one of `spec.processors`.

    Raises:
        ValueError: it means none; the message begins with the path of what is wrong.
    """
    id_, config = str(use.get("id")), use.get("config") or {}
    if id_ not in _MAKERS:
        every = (*IDS, *SHAPERS)
        near = closest(id_, every)
        hint = f'; did you mean "{near}"?' if near else f"; there are: {', '.join(every)}"
        raise ValueError(f"{path}.id: there is no processor {id_[:63]!r}{hint}")
    maker, strategy, _, settings = _MAKERS[id_]
    if guardrail and id_ in REWRITES:
        raise ValueError(f"{path}.id: {id_} stops nothing; it is a processor: spec.processors.input")
    common = frozenset({"phase", "retry"}) if guardrail else _COMMON
    allowed = {*settings, *common} - ({"action"} if guardrail else set())
    if id_ == "classifier":
        # It has `action`, as in its `blockIf`.
        allowed -= {"strategy"}
    for name in config:
        if name not in allowed:
            raise ValueError(f"{path}.config.{name}: {id_} has no such setting; it has: {', '.join(sorted(allowed))}")
    chosen: Any = config.get("strategy", strategy)
    known: tuple[str, ...] = LANGUAGE_STRATEGIES if id_ == "language-detector" else _STRATEGIES
    if chosen not in known:
        raise ValueError(f"{path}.config.strategy: must be one of {', '.join(known)}")
    chosen = "block" if guardrail else _MEANT.get(chosen, chosen)
    if config.get("phase") is not None and config["phase"] not in PHASES:
        raise ValueError(f"{path}.config.phase: must be one of {', '.join(PHASES)}")
    try:
        if id_ == "classifier" and not guardrail:
            action = one_of(config, "action", ("block", "filter", "warn"), "block")
            chosen = "redact" if action == "filter" else action
        judged = {**config, "strategy": "block"} if guardrail and id_ == "language-detector" else config
        judging = _JUDGES.get(id_)
        return Processor(
            id_,
            path,
            chosen,
            maker(config),
            rewrites=id_ in REWRITES,
            tokens=whole(config, "limit") if id_ == "token-limiter" else None,
            hidden_tools=_hidden(config) if id_ == "tool-call-filter" else frozenset(),
            judge=None if judging is None else judging(judged),
            retry=_retry(config, chosen, phases(use, given=side)),
            parts=_parts(config, id_, chosen),
            window=_window(config, id_),
            reason=text(config, "reason") if id_ == "classifier" else "",
        )
    except Wrong as error:
        raise ValueError(f"{path}.config{error.path}: {error.what}") from None


def _retry(config: Mapping[str, Any], strategy: str, where: frozenset[str]) -> bool:
    if not flag(config, "retry"):
        return False
    if strategy != "block" or "output" not in where:
        raise Wrong(".retry", "asks again for an answer that is blocked: it goes with strategy block, in the output")
    return True


def _parts(config: Mapping[str, Any], id_: str, strategy: str) -> frozenset[str]:
    found = texts(config, "parts", ()) if "parts" in _MAKERS[id_][3] else ["text"]
    if not set(found) <= set(PARTS):
        raise Wrong(".parts", f"must be a list of {', '.join(PARTS)}")
    # What a tool is called with is changed only where that is asked for.
    usual = ("text", "reasoning") if strategy == "redact" else PARTS
    return frozenset(found or usual)


def _window(config: Mapping[str, Any], id_: str) -> int | None:
    """Characters that whatever it finds needs to show itself; None where an answer must be seen as a whole."""
    if id_ == "unicode-normalizer":
        return 32
    if id_ == "pii-detector":
        return WINDOWS["pii"]
    if id_ == "moderation" and isinstance(config.get("words"), list):
        return max(len(word) for word in config["words"]) + 2
    if id_ != "regex-filter":
        return None
    own = whole(config, "window") if config.get("window") is not None else None
    if own is not None and own > _WIDEST:
        raise Wrong(".window", f"must be {_WIDEST} at most")
    if config.get("rules") and own is None:
        return None
    presets = config.get("presets") or []
    return max([own or 1, *(WINDOWS[name] for name in ([presets] if isinstance(presets, str) else presets))])


def phases(use: Mapping[str, Any], *, given: str = "") -> frozenset[str]:
    """Where a processor looks: `input` (with the results of tools), `output`, or both.

    Args:
        given: the list in which it stands, for one of `spec.processors`; a guardrail stands in none.
    """
    usual = _MAKERS[use["id"]][2]
    chosen = (use.get("config") or {}).get("phase") or (given if given and usual == "all" else usual)
    return frozenset({"input", "output"} if chosen == "all" else {chosen})


def _hidden(config: Mapping[str, Any]) -> frozenset[str]:
    exclude = config.get("exclude", "all")
    if exclude == "all":
        return frozenset({"*"})
    if not isinstance(exclude, list) or not exclude or not all(isinstance(name, str) for name in exclude):
        raise Wrong(".exclude", "must be all, or a list of names of tools")
    return frozenset(exclude)
