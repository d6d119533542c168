"""Does an answer have what it should, and did it call the tools that it should? Each gives 1 or 0 (`similarity` what lies between).

Source: the quick checks of Mastra. Read next: `kastra.agent.scorers.catalogue`, which reads their settings.
"""

from collections.abc import Mapping
from typing import Any

import re2

from kastra.agent.processors.settings import Wrong, flag, share, text, texts, whole

from .sample import Sample, Score
from .texts import dice


def includes(config: Mapping[str, Any]) -> Score:
    """The answer has `expected`. Raises Wrong."""
    wanted, fold = _wanted(config, "expected")
    return lambda sample: float(wanted in _said(sample, fold))


def excludes(config: Mapping[str, Any]) -> Score:
    """The answer hasn't `unwanted`. Raises Wrong."""
    unwanted, fold = _wanted(config, "unwanted")
    return lambda sample: float(unwanted not in _said(sample, fold))


def equals(config: Mapping[str, Any]) -> Score:
    """The answer is `expected`, but for blanks around it. Raises Wrong."""
    wanted, fold = _wanted(config, "expected")
    return lambda sample: float(wanted.strip() == _said(sample, fold).strip())


def matches(config: Mapping[str, Any]) -> Score:
    """`pattern` (RE2) is met in the answer, or by all of it (`exact`). Raises Wrong."""
    pattern, exact = _needed(config, "pattern"), flag(config, "exact")
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        why = said.decode() if isinstance(said, bytes) else said
        raise Wrong(".pattern", f"no RE2 pattern: {why}") from None
    look = compiled.fullmatch if exact else compiled.search
    return lambda sample: float(look(sample.said) is not None)


def similarity(config: Mapping[str, Any]) -> Score:
    """How like `expected` the answer is; with a `threshold`, whether it is so like it. Raises Wrong."""
    wanted, fold = _wanted(config, "expected")
    threshold = share(config, "threshold")

    def score(sample: Sample) -> float:
        like = dice(wanted, _said(sample, fold))
        return like if threshold is None else float(like >= threshold)

    return score


def called_tool(config: Mapping[str, Any]) -> Score:
    """`tool` was called, `times` times at least. Raises Wrong."""
    tool, times = _needed(config, "tool"), whole(config, "times", 1)
    return lambda sample: float(sum(call.name == tool for call in sample.calls) >= times)


def did_not_call(config: Mapping[str, Any]) -> Score:
    """`tool` wasn't called. Raises Wrong."""
    tool = _needed(config, "tool")
    return lambda sample: float(all(call.name != tool for call in sample.calls))


def tool_order(config: Mapping[str, Any]) -> Score:
    """`tools` were called in this order, whatever was called in between. Raises Wrong."""
    if config.get("tools") is None:
        raise Wrong(".tools", "must be a list of texts")
    wanted = texts(config, "tools", ())

    def score(sample: Sample) -> float:
        names = iter([call.name for call in sample.calls])
        return float(all(tool in names for tool in wanted))

    return score


def max_tool_calls(config: Mapping[str, Any]) -> Score:
    """At most `max` calls were made. Raises Wrong."""
    most = whole(config, "max", least=0)
    return lambda sample: float(len(sample.calls) <= most)


def used_no_tools(sample: Sample) -> float:
    """No tool was called."""
    return float(not sample.calls)


def no_tool_errors(sample: Sample) -> float:
    """No call failed."""
    return float(not any(call.failed for call in sample.calls))


def _needed(config: Mapping[str, Any], name: str) -> str:
    found = text(config, name)
    if not found:
        raise Wrong(f".{name}", "is required: a text")
    return found


def _wanted(config: Mapping[str, Any], name: str) -> tuple[str, bool]:
    wanted, fold = _needed(config, name), flag(config, "ignoreCase", True)
    return (wanted.casefold() if fold else wanted), fold


def _said(sample: Sample, fold: bool) -> str:
    return sample.said.casefold() if fold else sample.said
