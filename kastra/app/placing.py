"""Where in the files is what controllers say of fields? Findings that only the whole shows, with file, line and column.

What one object says of another's schema is found by a controller, when both are there; its condition names fields. Whoever has
applied the files is shown where these stand. Nothing is checked here. Read next: `kastra.cli.apply`, `controllers/workflow.py`.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from kastra.api.errors import INVALID, Cause
from kastra.api.object import Object
from kastra.manifest.loader import Loaded, Manifest
from kastra.manifest.position import parse_path
from kastra.manifest.problem import Problem

REASONS = frozenset({"SchemaMismatch"})
"""Reasons of Ready whose message is a list of `field: what is wrong`."""

_STEP_WITH = re.compile(r"(?<=\])\.with(?=[.\[]|$)")
_BETWEEN = re.compile(r"; (?=spec[.\[]|and \d+ more$)")


def placed(loaded: Loaded, objects: Iterable[Object], namespace: str) -> list[Problem]:
    """What the conditions of `objects` say of fields of the manifests that they were applied from, as warnings.

    Args:
        namespace: of manifests that name none.
    """
    manifests = {}
    for manifest in loaded.manifests:
        metadata = manifest.object["metadata"]
        kind, group = manifest.object["kind"], manifest.object["apiVersion"].rpartition("/")[0]
        manifests[kind, group, metadata.get("namespace") or namespace, metadata.get("name")] = manifest
    found = []
    for obj in objects:
        condition = obj.condition("Ready") or {}
        group = obj.data["apiVersion"].rpartition("/")[0]
        origin = manifests.get((obj.kind, group, obj.namespace, obj.name))
        if origin is None or condition.get("status") != "False" or condition.get("reason") not in REASONS:
            continue
        for part in _BETWEEN.split(str(condition.get("message") or "")):
            field, colon, message = part.partition(": ")
            if colon and field.startswith("spec"):
                problem = origin.problem(Cause(INVALID, message, _as_written(origin, field)))
                found.append(replace(problem, severity="warning"))
    return found


def _as_written(manifest: Manifest, field: str) -> str:
    """The field as the manifest has it: a step's `with` may stand below `input`."""
    longer = _STEP_WITH.sub(".input.with", field, count=1)
    for form in (field, longer):
        if manifest.positions.find(parse_path(form))[1]:
            return form
    return field
