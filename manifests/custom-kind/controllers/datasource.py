"""DataSource: a table that agents may query. Keeps one lookup Tool per source and reports what is in it.

The kind is declared in `crd.yaml`; this file is found in a project's `controllers/` folder. Never changes the rows.
"""

import csv
import io
import json
from typing import Any

from kastra import Context, Fields, Result, View, controller


class DataSourceSpec(Fields):
    """Where the rows are."""

    title: str = ""
    rows: str
    key: str = ""


class DataSource(View, kind="DataSource", group="example.com"):
    """A DataSource, read."""

    spec: DataSourceSpec


@controller(DataSource, owns=["Tool", "ConfigMap"])
async def reconcile(source: DataSource, ctx: Context) -> Result:
    """One ConfigMap with the rows as JSON and one Tool that looks a row up."""
    reader = csv.DictReader(io.StringIO(source.spec.rows))
    rows = list(reader)
    columns = list(reader.fieldnames or ())
    if not columns:
        return ctx.not_ready("NoColumns", "spec.rows: the first line must name the columns")
    key = source.spec.key or columns[0]
    if key not in columns:
        return ctx.not_ready("NoSuchColumn", f"spec.key: there is no column {key!r}; there are: {', '.join(columns)}")
    await ctx.apply(rows_map(source, rows))
    await ctx.apply(lookup_tool(source, key, rows))
    ctx.status.rows = len(rows)
    ctx.status.columns = columns
    return ctx.ready(f"{len(rows)} rows")


def rows_map(source: DataSource, rows: list[dict[str, str]]) -> dict[str, Any]:
    """The rows for whoever wants them as JSON."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{source.metadata.name}-rows"},
        "data": {"rows.json": json.dumps(rows)},
    }


def lookup_tool(source: DataSource, key: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    """A Tool that finds a row by its key."""
    table = {row[key]: row for row in rows if row[key]}
    return {
        "apiVersion": "mastra.ai/v1",
        "kind": "Tool",
        "metadata": {"name": f"{source.metadata.name}-lookup"},
        "spec": {
            "description": f"Looks up {source.spec.title or source.metadata.name} by {key}.",
            "annotations": {"readOnly": True, "idempotent": True},
            "inputSchema": {
                "type": "object",
                "required": [key],
                "properties": {key: {"type": "string", "enum": sorted(table)}},
            },
            "python": {"inline": f"TABLE = {table!r}\n\n\ndef look_up(**wanted):\n    return TABLE[wanted[{key!r}]]\n"},
        },
    }
