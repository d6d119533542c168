"""What is there to say of a workflow before it runs? Compiled once per spec, however often it is asked.

Admission, the controller and the view's `unsupported` all want to know something that only the compiler can tell. What is
kept is what they ask for and not the graph, so thousands of answers fit. Read next: `kastra.engine.compiler`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson

from kastra.api.errors import Cause

from .compiler import GraphError, compile_workflow
from .compiler_called import Called, Problems
from .compiler_schemas import schema_causes
from .graph import unsupported


@dataclass(frozen=True, slots=True)
class Examined:
    """A workflow, as far as people and controllers are told.

    Args:
        causes: why it doesn't compile; empty if it does, and only then the rest is filled.
        steps: how many there are, nested ones included.
        hash: of the normal form that was compiled.
        unsupported: (field path, feature) of what the executor doesn't do; such a workflow isn't run.
        functions: the bodies of `python` steps, by field path.
    """

    causes: tuple[Cause, ...] = ()
    steps: int = 0
    hash: str = ""
    unsupported: tuple[tuple[str, str], ...] = ()
    functions: tuple[tuple[str, Mapping[str, Any]], ...] = ()


def examine_workflow(spec: Mapping[str, Any]) -> Examined:
    """What the compiler says of a plain normalised Workflow spec."""
    return _examined(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS))


def examine_called(spec: Mapping[str, Any], called: Mapping[str, Called], problems: Problems) -> tuple[Cause, ...]:
    """What of a workflow that compiles doesn't fit what its steps call, each with its field.

    Args:
        spec: plain and normalised.
        called: what steps call, by the path of the step.
        problems: says what is wrong with a value by a schema.
    """
    if not any(one.input is not None or one.output is not None for one in called.values()):
        return ()
    known = {path: tuple(one) for path, one in called.items()}
    return _compared(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS), orjson.dumps(known), problems)


@lru_cache(maxsize=1024)
def _compared(spec: bytes, called: bytes, problems: Problems) -> tuple[Cause, ...]:
    given = {path: Called(*one) for path, one in orjson.loads(called).items()}
    try:
        return tuple(schema_causes(compile_workflow(orjson.loads(spec)), given, problems))
    except GraphError:
        return ()


@lru_cache(maxsize=4096)
def _examined(spec: bytes) -> Examined:
    try:
        graph = compile_workflow(orjson.loads(spec))
    except GraphError as error:
        return Examined(causes=tuple(error.causes))
    steps = list(graph.walk())
    return Examined(
        steps=len(steps),
        hash=sha256(spec).hexdigest()[:16],
        unsupported=tuple(unsupported(graph)),
        functions=tuple((f"{step.path}.python", step.spec["python"]) for step in steps if step.kind == "python"),
    )
