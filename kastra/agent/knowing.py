"""How does an agent search the KnowledgeBases that its manifest names under `knowledge`? With the built-in tool for it.

Read next: `kastra.tool.toolkit.knowledge`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.types import ClosureObject

from .models import Lookup

TOOL = "knowledge_search"
"""How a model sees the tool."""
_MOST = 600


def knowledge_use(spec: Mapping[str, Any], lookup: Lookup) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The use of the toolkit and the binding that `knowledge` stands for; None if there is none, or a tool of that name.

    Args:
        spec: of the agent, in normal form.
        lookup: from the path of a reference.

    Raises:
        StepError: a reference leads to nothing that this Run resolved.
    """
    named = spec.get("knowledge") or ()
    taken = {binding.get("as") or binding["name"] for binding in spec.get("tools") or () if "name" in binding}
    if not named or TOOL in taken:
        return None
    bases = [lookup(f"spec.knowledge[{number}]") for number in range(len(named))]
    use = {"name": "knowledge.search", "bases": [f"{base['namespace']}/{base['name']}" for base in bases]}
    return use, {"name": TOOL, "description": _described(bases)}


def _described(bases: list[ClosureObject]) -> str:
    about = "; ".join(f"{base['name']}: {base['spec'].get('description') or 'documents'}" for base in bases)
    return f"Search what is known for passages that answer a question. Knowledge bases: {about}"[:_MOST]
