"""What does Kastra do with which type of provider? The matrix of the documentation, read off the dialects.

Every cell is checked against the wire by `tests/unit/model/test_features.py`, which goes through this table. Read next:
`kastra.model.dialects`.
"""

from collections.abc import Callable, Mapping

from .dialects import DIALECTS, Dialect

_STRUCTURED = {"json_schema": "by format", "json_object": "JSON mode", "tool": "by tool", "prompt": "by prompt"}
_IMAGES = {"url": "data, URL", "data": "data", "": "no"}


def _yes(said: bool) -> str:
    return "yes" if said else "no"


FEATURES: Mapping[str, Callable[[Dialect], str]] = {
    "whole answers": lambda _: "yes",
    "streaming": lambda _: "yes",
    "parallel tool calls": lambda _: "yes",
    "structured output": lambda dialect: _STRUCTURED[dialect.structured],
    "reasoning": lambda dialect: _yes(bool(dialect.reasoning) or dialect.wire == "anthropic"),
    "reasoning handed back": lambda dialect: _yes(dialect.reasoning_back),
    "images": lambda dialect: _IMAGES[dialect.images],
    "files": lambda dialect: "data, URL" if dialect.wire == "anthropic" else "data" if dialect.files else "no",
    "embeddings": lambda dialect: _yes(dialect.embeddings),
    "cached tokens counted": lambda _: "yes",
    "prompt cache marks": lambda dialect: _yes(dialect.wire == "anthropic"),
    "models listed": lambda _: "yes",
    "needs a key": lambda dialect: _yes(dialect.needs_key),
}
"""From a feature to its cell for a dialect."""


def matrix() -> str:
    """The table as Markdown: a row for each feature, a column for each type of provider."""
    names = list(DIALECTS)
    rows = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for feature, cell in FEATURES.items():
        rows.append(f"| {feature} | {' | '.join(cell(DIALECTS[name]) for name in names)} |")
    return "\n".join(rows)
