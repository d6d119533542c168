"""A document of the Serverless (Open) Workflow DSL 1.0 to a Workflow and the Tools of its HTTP calls.

Maps what means the same, and reports the rest with its place. Source: serverlessworkflow/specification, dsl.md and
dsl-reference.md of 1.0. Read next: `kastra.migrate.serverless.tasks`.
"""

import re
from typing import Any

from kastra.migrate.context import Context, Draft
from kastra.migrate.node import Node

from .cel import Seen
from .jq import NotExact
from .place import Converter, Unmapped, duration, transformed
from .tasks import CONTEXT, convert, schema_of, timeout_of

DIALECT = "serverless-workflow"
_VERSION = re.compile(r"1\.0(\.\d+)?(-[\w.]+)?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ADVICE = "write it as a Workflow; see `kastra explain workflow.spec`"


def is_document(value: Any) -> bool:
    """Whether a decoded document is one of this language."""
    return isinstance(value, dict) and isinstance(value.get("document"), dict) and "dsl" in value["document"]


def workflow(ctx: Context, node: Node, name: str, namespace: str) -> Draft | None:
    """A Workflow of a document."""
    draft = ctx.draft("Workflow", name, namespace, node)
    if draft is None:
        return None
    head = node.get("document")
    assert head is not None, "what is no document of the language doesn't come here"
    spec = draft.spec
    if draft.name != name:
        spec["name"] = name
    _head(ctx, draft, head)
    converter = Converter(ctx, draft, node.get("use"))
    try:
        _body(converter, node)
    except NotExact as error:
        place = error.node if isinstance(error, Unmapped) else node
        ctx.stub(draft, place, str(error), _ADVICE)
        spec.setdefault(
            "steps",
            [{"id": "not-migrated", "raise": {"type": "NotMigrated", "title": "the workflow was not migrated"}}],
        )
    for left in node.untaken():
        ctx.dropped(draft.about, left)
    return draft


def _head(ctx: Context, draft: Draft, head: Node) -> None:
    version = head.get("dsl")
    if version is not None and not _VERSION.fullmatch(str(version.value)):
        ctx.note("note", draft.about, version, "this is another version of the language than 1.0, which is read here")
    for field, names in (("version", ("version",)), ("description", ("summary",)), ("name", ("title",))):
        given = head.get(*names)
        if given is not None:
            draft.spec[field] = str(given.value)
            draft.places["spec", field] = given
    head.get("name", "namespace")
    tags = head.get("tags")
    for key in tags.value if tags is not None and isinstance(tags.value, dict) else ():
        tag = tags.value[key] if tags is not None else ""
        if _LABEL.fullmatch(str(key)) and _LABEL.fullmatch(str(tag)):
            draft.labels[key] = str(tag)
        elif tags is not None:
            ctx.dropped(draft.about, tags.child(key), "can't be a label")
    for left in head.untaken():
        if left.path[-1] != "metadata":
            ctx.dropped(draft.about, left)


def _body(converter: Converter, node: Node) -> None:
    ctx, draft, spec = converter.ctx, converter.draft, converter.draft.spec
    evaluate = node.get("evaluate")
    language = evaluate.get("language") if evaluate is not None else None
    if language is not None and language.value != "jq":
        raise Unmapped(language, f"its expressions are {language.value}, and only jq is read")
    if evaluate is not None and (mode := evaluate.get("mode")) is not None and mode.value != "strict":
        raise Unmapped(mode, "evaluates every text that might be an expression")
    if converter.use is not None:
        for section in ("extensions", "catalogs"):
            given = converter.use.get(section)
            if given is not None and given.value:
                ctx.note(
                    "not-migrated", draft.about, given, f"{section} have no counterpart", "put them into the tasks"
                )
        converter.use.get("secrets", "authentications", "errors", "functions", "retries", "timeouts")
    body = node.get("do")
    if body is None:
        raise Unmapped(node, "lacks do")
    seen = Seen(names={"context": CONTEXT})
    steps = []
    given = node.get("input")
    if given is not None:
        taken = given.get("from")
        _take_schema(converter, given.get("schema"), "inputSchema")
        if taken is not None:
            value = transformed(taken, seen)
            steps = [{"id": converter.fresh("workflow-input"), "set": {}, "output": {"as": value}}]
    spec["steps"] = steps + convert(converter, body, seen)
    for index, place in enumerate([body] * len(steps) + converter.places):
        draft.places["spec", "steps", index] = place
    _ending(converter, node)


def _take_schema(converter: Converter, schema: Node | None, field: str) -> None:
    if schema is None:
        return
    found = schema_of(schema)
    if found is None:
        converter.ctx.dropped(converter.draft.about, schema, "is no JSON Schema that stands in the document")
    else:
        converter.draft.spec[field] = found
        converter.draft.places["spec", field] = schema


def _ending(converter: Converter, node: Node) -> None:
    ctx, draft, spec = converter.ctx, converter.draft, converter.draft.spec
    output = node.get("output")
    if output is not None:
        taken = output.get("as")
        _take_schema(converter, output.get("schema"), "outputSchema")
        if taken is not None:
            after = Seen("output", True, {"context": CONTEXT, "input": "input", "output": "output"})
            spec["output"] = {"as": transformed(taken, after)}
    timeout = node.get("timeout")
    if timeout is not None:
        spec["timeout"] = {"total": timeout_of(converter, timeout)}
    schedule = node.get("schedule")
    if schedule is not None:
        every, cron = schedule.get("every"), schedule.get("cron")
        if every is not None:
            spec["schedule"] = {"every": duration(every)}
        elif cron is not None:
            spec["schedule"] = {"cron": str(cron.value)}
        for left in schedule.untaken():
            ctx.note("not-migrated", draft.about, left, "starts workflows in a way of its own", "write spec.triggers")
