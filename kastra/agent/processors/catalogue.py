"""Which processors are there, and what do they take? From `{id, config}` to what can be applied.

Everything that can be said of a declaration is said here, to whoever applies a manifest: an id that nobody knows, a setting
that there isn't, a pattern that doesn't compile. Read next: `kastra.agent.processors.guards`, which applies them.
"""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from kastra.api.names import closest

from .interface import Found, Processor, Scan, Strategy
from .patterns import INJECTION, PII, PRESETS, Rule, passages, rule, scanning, words

PHASES = ("input", "output", "all")
KNOWN_ONLY = frozenset(
    {
        "language-detector", "token-cost-control", "tool-search", "skill-search", "batch-parts", "structured-output",
        "response-cache", "stream-error-retry", "message-history", "semantic-recall", "working-memory",
        "memory-input-filter", "model-selection", "classifier", "provider-history-compat", "prefill-error-handler",
        "agents-md-injector",
    }
)  # fmt: skip
"""Ids that have a meaning elsewhere and no effect here."""

_STRATEGIES = ("block", "redact", "warn")
_COMMON = frozenset({"strategy", "phase"})


class _Wrong(ValueError):
    """What is wrong with a setting; the first argument is its path below `config`."""


def _rules(config: Mapping[str, Any]) -> Scan:
    presets = config.get("presets") or []
    presets = [presets] if isinstance(presets, str) else presets
    given = config.get("rules") or []
    if not isinstance(presets, list) or not isinstance(given, list) or not (presets or given):
        raise _Wrong("", "needs rules, or presets: pii, secrets, urls")
    found: list[Rule] = []
    for index, name in enumerate(presets):
        if name not in PRESETS:
            raise _Wrong(f".presets[{index}]", f"must be one of {', '.join(PRESETS)}")
        found += PRESETS[name]
    for index, one in enumerate(given):
        one = {"pattern": one} if isinstance(one, str) else one
        if not isinstance(one, Mapping) or not isinstance(one.get("pattern"), str) or not one["pattern"]:
            raise _Wrong(f".rules[{index}]", "must be a pattern, or {name, pattern, replacement}")
        name = str(one.get("name") or f"rule-{index}")[:63]
        try:
            found.append(rule(name, one["pattern"], str(one.get("replacement") or "")))
        except ValueError as error:
            raise _Wrong(f".rules[{index}].pattern", str(error)) from None
    return scanning(found)


def _pii(config: Mapping[str, Any]) -> Scan:
    known = [each.name for each in PII]
    types = config.get("types") or known
    if not isinstance(types, list) or not set(types) <= set(known):
        raise _Wrong(".types", f"must be a list of {', '.join(known)}")
    return scanning([each for each in PII if each.name in types])


def _normal(config: Mapping[str, Any]) -> Scan:
    form = config.get("form", "NFKC")
    if form not in ("NFC", "NFKC"):
        raise _Wrong(".form", "must be NFC or NFKC")

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
    limit = _number(config, "max")

    def scan(text: str, _instructions: str) -> tuple[str, Found]:
        return (text, {}) if len(text) <= limit else (text[:limit], {"length": 1})

    return scan


def _moderation(config: Mapping[str, Any]) -> Scan | None:
    listed = config.get("words")
    if listed is None and config.get("model") is None:
        raise _Wrong("", "needs words, or a model that judges")
    if listed is None:
        return None
    if not isinstance(listed, list) or not listed or not all(isinstance(word, str) and word for word in listed):
        raise _Wrong(".words", "must be a list of words")
    return words(listed)


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _Wrong(f".{name}", "must be a whole number of 1 or more")
    return value


_MAKERS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Scan | None], Strategy, str, frozenset[str]]] = {
    "unicode-normalizer": (_normal, "redact", "all", frozenset({"form"})),
    "regex-filter": (_rules, "block", "all", frozenset({"rules", "presets"})),
    "pii-detector": (_pii, "redact", "all", frozenset({"types"})),
    "prompt-injection-detector": (lambda _: scanning(INJECTION), "block", "input", frozenset()),
    "system-prompt-scrubber": (lambda _: passages, "redact", "output", frozenset()),
    "moderation": (_moderation, "block", "all", frozenset({"words", "model", "categories"})),
    "length-limiter": (_longest, "block", "all", frozenset({"max"})),
    "token-limiter": (lambda _: None, "redact", "input", frozenset({"limit"})),
    "tool-call-filter": (lambda _: None, "redact", "input", frozenset({"exclude"})),
}
"""By id: what makes its scan, its strategy, where it makes sense, its settings."""

IDS = tuple(_MAKERS)
REWRITES = frozenset({"unicode-normalizer", "token-limiter", "tool-call-filter"})
"""Those that only change what is sent: they stop nothing, so they are no guardrails."""


def make(use: Mapping[str, Any], path: str, *, guardrail: bool = False) -> Processor:
    """The processor that a declaration means.

    Args:
        use: `{id, config}`.
        path: of the declaration, for messages.
        guardrail: whether it can only stop a call: its strategy is then `block`.

    Raises:
        ValueError: it means none; the message begins with the path of what is wrong.
    """
    id_, config = str(use.get("id")), use.get("config") or {}
    if id_ not in _MAKERS:
        near = closest(id_, IDS)
        hint = f'; did you mean "{near}"?' if near else f"; there are: {', '.join(IDS)}"
        raise ValueError(f"{path}.id: there is no processor {id_[:63]!r}{hint}")
    maker, strategy, _, settings = _MAKERS[id_]
    if guardrail and id_ in REWRITES:
        raise ValueError(f"{path}.id: {id_} stops nothing; it is a processor: spec.processors.input")
    allowed = {*settings, *({"phase"} if guardrail else _COMMON)}
    for name in config:
        if name not in allowed:
            raise ValueError(f"{path}.config.{name}: {id_} has no such setting; it has: {', '.join(sorted(allowed))}")
    chosen: Any = "block" if guardrail else config.get("strategy", strategy)
    if chosen not in _STRATEGIES:
        raise ValueError(f"{path}.config.strategy: must be one of {', '.join(_STRATEGIES)}")
    if config.get("phase") is not None and config["phase"] not in PHASES:
        raise ValueError(f"{path}.config.phase: must be one of {', '.join(PHASES)}")
    try:
        return Processor(
            id_,
            path,
            chosen,
            maker(config),
            rewrites=id_ in REWRITES,
            tokens=_number(config, "limit") if id_ == "token-limiter" else None,
            hidden_tools=_hidden(config) if id_ == "tool-call-filter" else frozenset(),
            model=_judge(config),
        )
    except _Wrong as error:
        raise ValueError(f"{path}.config{error.args[0]}: {error.args[1]}") from None


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
        raise _Wrong(".exclude", "must be all, or a list of names of tools")
    return frozenset(exclude)


def _judge(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    model = config.get("model")
    if model is None:
        return None
    if isinstance(model, str):
        provider, _, name = model.partition("/")
        model = {"provider": provider, "name": name}
    if not isinstance(model, Mapping) or not model.get("provider"):
        raise _Wrong(".model", "must be provider/name, or {provider, name, parameters}")
    categories = config.get("categories") or ["hate", "harassment", "violence", "self-harm", "sexual"]
    if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
        raise _Wrong(".categories", "must be a list of texts")
    return {"choice": dict(model), "categories": categories}
