"""The form of a test file, as JSON Schema: `kastra test --schema` prints it for editors, and every file is checked against it.

Read next: `kastra.testing.cases`, which reads files.
"""

from collections.abc import Mapping
from typing import Any

_TEXT = {"type": "string", "minLength": 1}
_DURATION = {"type": ["string", "integer"], "description": "Such as 30s, 10m, 24h; a number is seconds."}
_EXPRESSION = {"type": "string", "description": "CEL."}


def _object(description: str, properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


_TOOL_ERROR = _object(
    "How the call fails.",
    {"type": _TEXT, "title": _TEXT, "retryable": {"type": "boolean"}, "retryAfter": {"type": "number", "minimum": 0}},
)
_TOOL_ANSWER = _object(
    "What a tool answers.",
    {
        "output": {"description": "The result; ${{ }} sees arguments, call and attempt."},
        "error": _TOOL_ERROR,
        "crash": {"type": "boolean", "description": "The process ends while the call is under way, and recovers."},
        "when": _EXPRESSION,
        "times": {"type": "integer", "minimum": 1, "description": "Default 1, for the last answer any number."},
        "delay": _DURATION,
    },
)
_TURN = _object(
    "What a model says.",
    {
        "reply": {"description": "Text."},
        "call": {"description": "{tool, arguments}, or a list of them."},
        "object": {"description": "Structured output."},
        "error": _object(
            "How the call fails.", {"kind": _TEXT, "message": _TEXT, "retryAfter": {"type": "number", "minimum": 0}}
        ),
        "when": _EXPRESSION,
        "delay": _DURATION,
    },
)
_TOOLS = {
    "type": "object",
    "description": "Answers by the name of the tool (NAME or NAMESPACE/NAME).",
    "additionalProperties": {"anyOf": [_TOOL_ANSWER, {"type": "array", "items": _TOOL_ANSWER, "minItems": 1}]},
}
_MODELS = {
    "type": "object",
    "description": "Scripts by the name of the agent (NAME or NAMESPACE/NAME), or network/NAME for a router.",
    "additionalProperties": {
        "anyOf": [
            {"type": "array", "items": _TURN},
            _object("Rules as of the provider scripted.", {"rules": {"type": "array", "minItems": 1}}, ("rules",)),
        ]
    },
}
_DELIVERY = {
    **_object(
        "Something from outside.",
        {
            "at": _DURATION,
            "signal": {"type": "object", "description": "{name | type, data, id, subject}, to this Run."},
            "event": {"type": "object", "description": "A CloudEvent to the namespace: {id, source, type, data, ...}."},
            "approve": _object(
                "A decision about the one Approval that waits, or that of a step.",
                {
                    "verdict": {"enum": ["approve", "reject", "edit"]},
                    "step": _TEXT,
                    "by": _TEXT,
                    "reason": _TEXT,
                    "args": {"type": "object"},
                },
                ("verdict",),
            ),
            "resume": {"type": "object", "description": "{stepKey, data}: the answer to a step that is held."},
            "suspend": {"const": True},
            "cancel": {"const": True},
        },
        ("at",),
    ),
    "minProperties": 2,
    "maxProperties": 2,
}
_STEP = _object(
    "How a step went.",
    {
        "phase": _TEXT,
        "output": {},
        "attempt": {"type": "integer"},
        "error": {"type": "object"},
        "counts": {"type": "object"},
    },
)
_EXPECT = _object(
    "What must come of it. What isn't named isn't looked at, but for the phase.",
    {
        "phase": {
            "enum": ["Pending", "Waiting", "Suspended", "Succeeded", "Failed", "Cancelled"],
            "description": "Default Succeeded, or Failed where an error is expected.",
        },
        "output": {"description": "Exactly."},
        "outputIncludes": {"description": "At least: objects by their fields, lists item by item."},
        "error": _object("", {"type": _TEXT, "title": {**_TEXT, "description": "A part of it."}, "step": _TEXT}),
        "steps": {
            "type": "object",
            "description": "By stepKey, as kastra graph and runs/steps name it: a phase, or more.",
            "additionalProperties": {"anyOf": [_TEXT, _STEP]},
        },
        "toolCalls": {
            "type": "array",
            "description": "All calls of tools, in order: a name, or {tool, arguments}.",
            "items": {
                "anyOf": [
                    _TEXT,
                    _object(
                        "", {"tool": _TEXT, "arguments": {"type": "object"}, "attempt": {"type": "integer"}}, ("tool",)
                    ),
                ]
            },
        },
        "waitingFor": {"type": "array", "items": _TEXT, "description": "stepKeys."},
        "duration": {**_DURATION, "description": "Virtual time, to the second."},
        "that": {
            "type": "array",
            "items": _EXPRESSION,
            "description": "Conditions over output, error, phase, steps, calls and duration (seconds).",
        },
    },
)
_CRASH = {"type": "array", "items": _object("When the process ends.", {"after": _TEXT}, ("after",))}
_COMMON = {
    "target": {**_TEXT, "description": "KIND/NAME, such as workflow/order."},
    "namespace": _TEXT,
    "tools": _TOOLS,
    "models": _MODELS,
}
_CASE = _object(
    "One test.",
    {
        "name": _TEXT,
        **_COMMON,
        "input": {},
        "spec": {"type": "object", "description": "Further fields of the Run, such as timeout."},
        "deliver": {"type": "array", "items": _DELIVERY},
        "crash": _CRASH,
        "expect": _EXPECT,
        "skip": {**_TEXT, "description": "Why it isn't run."},
    },
    ("name",),
)
SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Kastra test file",
    **_object(
        "Tests of Workflows, Agents, Networks and Tools: *.test.yaml",
        {
            "manifests": {
                "type": "array",
                "items": _TEXT,
                "minItems": 1,
                "description": "Files, folders and globs, from the folder of this file; default: that folder.",
            },
            **_COMMON,
            "tests": {"type": "array", "items": _CASE, "minItems": 1},
        },
        ("tests",),
    ),
}
"""The schema; draft 2020-12."""
