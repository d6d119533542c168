"""Where does `fieldPath: .spec.items['a.b']` of a rule lead? The path checked against the schema.

Only names of fields and keys of maps may stand in it; list indices have no meaning for every object.

Source: Kubernetes' ValidFieldPath. Read next: `kastra.schema.rules`.
"""

import re

from .causes import Segment
from .structural import Structural

_STEP = re.compile(r"\.([^.\[\]']+)|\['((?:[^'\\]|\\.)*)'\]")


def parse_field_path(text: str, schema: Structural) -> tuple[Segment, ...]:
    """The segments of a path, relative to values of `schema`.

    Raises:
        ValueError: it isn't a path, or leads nowhere; the message says which step.
    """
    segments: list[Segment] = []
    end, node = 0, schema
    for step in _STEP.finditer(text):
        if step.start() != end:
            break
        end = step.end()
        name = step[1] if step[1] is not None else re.sub(r"\\(.)", r"\1", step[2])
        if name in node.properties:
            segments.append(name)
            node = node.properties[name]
        elif isinstance(node.additional, Structural):
            segments.append(f"[{name}]")
            node = node.additional
        else:
            raise ValueError(f"{name} does not refer to a valid field")
    if end != len(text) or not segments:
        raise ValueError(f"expected .name or ['name'] at {text[end : end + 20]!r}")
    return tuple(segments)
