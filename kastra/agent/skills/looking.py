"""Which skills does an Agent's manifest lead to, for the controller that says so? Asks no model and runs nothing.

Read next: `kastra.agent.skills.shelf`.
"""

from collections.abc import Mapping
from typing import Any

from kastra.api.object import Object
from kastra.config import DATA_FOLDER, Settings

from .check import is_searched
from .shelf import MOST_LISTED, MOST_SKILLS, Shelf, collected


async def looked_at(
    spec: Mapping[str, Any], namespace: str, resolved: Mapping[str, Object], settings: Settings
) -> Shelf:
    """The skills of an Agent, and what is wrong with them.

    Args:
        spec: of the Agent, in normal form.
        namespace: of the Agent.
        resolved: what its references lead to, by path; a ConfigMap that isn't among them isn't there.
        settings: name the project's folder and the server's own.
    """
    given = {
        index: resolved[path].data.get("data") or {}
        for index in range(len(spec["skills"]))
        if (path := f"spec.skills[{index}].configMap") in resolved
    }
    private = (settings.data.absolute(), settings.project / DATA_FOLDER)
    most = MOST_SKILLS if is_searched(spec) else MOST_LISTED
    return await collected(spec["skills"], namespace, settings.project, private, given, most, whole=True)
