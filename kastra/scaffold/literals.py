"""JSON-like values and texts as Python source, the way ruff formats them, so that formatting changes nothing.

A value stands on one line if it fits, else with one item per line and a comma behind the last. Read next:
`kastra.scaffold.source`.
"""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 120
INDENT = "    "


def literal(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def fitted(value: Any, indent: str, used: int) -> str:
    """A value that begins in column `used` of a line whose block is indented by `indent`; over several lines if it must."""
    flat = literal(value)
    # A comma may follow.
    if used + len(flat) + 1 <= WIDTH or not isinstance(value, Mapping | list | tuple) or not value:
        return flat
    inner = indent + INDENT
    if isinstance(value, Mapping):
        heads = [f"{literal(key)}: " for key in value]
        lines = [
            head + fitted(item, inner, len(inner) + len(head)) for head, item in zip(heads, value.values(), strict=True)
        ]
        return block("{", lines, "}", indent)
    return block("[", [fitted(item, inner, len(inner)) for item in value], "]", indent)


def block(opening: str, lines: Iterable[str], closing: str, indent: str) -> str:
    """Brackets around items, one per line."""
    return f"{opening}\n" + "".join(f"{indent}{INDENT}{line},\n" for line in lines) + f"{indent}{closing}"


def docstring(text: str, indent: str) -> str:
    """A text as a docstring, indented and wrapped."""
    text = " ".join(text.split()).replace('"""', "'''")
    if text.startswith('"') or text.endswith('"'):
        text = text.replace('"', "'")
    if text.endswith("\\"):
        text += "."
    opening = 'r"""' if "\\" in text else '"""'
    if len(indent) + len(opening) + len(text) + 3 <= WIDTH:
        return f'{indent}{opening}{text}"""'
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{indent}{opening}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join([*lines, f'{indent}"""'])


def _text(value: str) -> str:
    doubles, singles = value.count('"'), value.count("'")
    quote = "'" if doubles > singles else '"'
    body = repr(value + "'\"")[1:-1]  # with both kinds of quotes, repr escapes the single ones
    body = body[: -len("\\'\"")].replace("\\'", "'")
    return quote + body.replace(quote, f"\\{quote}") + quote
