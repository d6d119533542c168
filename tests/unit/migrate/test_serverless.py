"""Serverless workflows: imported, valid, and run to what the specification says they give.

The documents are ours; each follows a scenario of the conformance kit of serverlessworkflow/specification (ctk/features), or
an example of its dsl-reference, which is named above it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kastra.manifest.encode import to_yaml_documents
from kastra.testing.control_plane import ControlPlane
from tests.unit.migrate.conftest import Convert

HEAD = "document: {dsl: '1.0.3', namespace: default, name: case, version: '1.0.0'}\n"


@dataclass(frozen=True)
class Case:
    """A document's tasks, what goes in, and what comes out."""

    tasks: str
    given: Any
    gives: Any
    head: str = ""


CASES: dict[str, Case] = {
    # set.feature: Set Task
    "set": Case("- make: {set: {kind: tea, cup: '${ .order.cup }'}}", {"order": {"cup": {"ml": 200}}}, {"kind": "tea", "cup": {"ml": 200}}),
    # set.feature, of a whole expression
    "set-expression": Case("- make: {set: '${ .order }'}", {"order": {"cup": 1}}, {"cup": 1}),
    # do.feature: Task With Sequential Sub Tasks
    "do": Case(
        """
- outer:
    do:
    - a: {set: {log: '${ .log + ["a"] }'}}
    - b: {set: {log: '${ .log + ["b"] }'}}
""",
        None,
        {"log": ["a", "b"]},
    ),
    # flow.feature: Implicit Sequence Flow
    "implicit-flow": Case(
        """
- a: {set: {log: '${ .log + ["a"] }'}}
- b: {set: {log: '${ .log + ["b"] }'}}
- c: {set: {log: '${ .log + ["c"] }'}}
""",
        None,
        {"log": ["a", "b", "c"]},
    ),
    # flow.feature: Explicit Sequence Flow
    "explicit-flow": Case(
        """
- a: {set: {log: '${ .log + ["a"] }'}, then: c}
- b: {set: {log: '${ .log + ["b"] }'}, then: end}
- c: {set: {log: '${ .log + ["c"] }'}, then: b}
""",
        None,
        {"log": ["a", "c", "b"]},
    ),
    # for.feature: For Task
    "for": Case(
        """
- each:
    for: {each: fruit, in: .fruits}
    do:
    - note: {set: {found: '${ { names: (.found.names + [ $fruit ]), places: (.found.places + [ $index ]) } }'}}
""",
        {"fruits": ["fig", "kiwi", "plum"]},
        {"found": {"names": ["fig", "kiwi", "plum"], "places": [0, 1, 2]}},
    ),
    # dsl-reference: for with at and while
    "for-while": Case(
        """
- each:
    for: {each: number, in: .numbers, at: place}
    while: '.total < 5'
    do:
    - add: {set: {total: '${ .total + $number + $place }'}}
""",
        {"numbers": [1, 2, 3, 4]},
        {"total": 9},
    ),
    "for-nothing": Case("- each: {for: {in: .none}, do: [{x: {set: {w: 1}}}]}", {"none": [], "z": 1}, {"none": [], "z": 1}),
    "for-in-for": Case(
        """
- rows:
    for: {each: row, in: .rows}
    do:
    - cells:
        for: {each: cell, in: $row}
        do:
        - note: {set: {log: '${ .log + [ $cell * 10 + ($row | length) ] }'}}
""",
        {"rows": [[1, 2], [3]]},
        {"log": [12, 22, 31]},
    ),
    # switch.feature: matching case, implicit default, explicit default
    "switch-match": Case(
        """
- choose: {switch: [{tea: {when: '.drink == "tea"', then: pot}}, {coffee: {when: '.drink == "coffee"', then: mill}}]}
- pot: {set: {in: pot}, then: end}
- mill: {set: {in: mill}, then: end}
""",
        {"drink": "coffee"},
        {"in": "mill"},
    ),
    "switch-implicit-default": Case(
        """
- choose:
    switch: [{tea: {when: '.drink == "tea"', then: pot}}]
    then: end
- pot: {set: {in: pot}}
""",
        {"drink": "water"},
        {"drink": "water"},
    ),
    "switch-explicit-default": Case(
        """
- choose: {switch: [{tea: {when: '.drink == "tea"', then: pot}}, {other: {then: glass}}]}
- pot: {set: {in: pot}, then: end}
- glass: {set: {all: '${ .all + [ $input.drink ] }'}}
""",
        {"drink": "water"},
        {"all": ["water"]},
    ),
    # branch.feature: With Competing Concurrent Sub Tasks
    "fork": Case(
        "- both: {fork: {branches: [{a: {set: {num: '${ .num + 1 }'}}}, {b: {set: {num: '${ .num + 2 }'}}}]}}", {"num": 1}, [{"num": 2}, {"num": 3}]
    ),
    "fork-compete": Case("- race: {fork: {compete: true, branches: [{a: {set: {num: 1}}}, {b: {wait: {hours: 1}}}]}}", {}, {"num": 1}),
    # raise.feature and try.feature: an error is caught by its type and status, and has the name that was wanted
    "try-caught": Case(
        """
- attempt:
    try:
    - fail: {raise: {error: {type: 'https://example.com/errors/empty', status: 404, title: Empty, detail: '${ "no " + .what }'}}}
    catch:
      errors: {with: {type: 'https://example.com/errors/empty', status: 404}}
      as: err
      do:
      - tell: {set: {kind: '${ $err.type }', status: '${ $err.status }', detail: '${ $err.detail }', what: '${ .what }'}}
""",
        {"what": "tea"},
        {"kind": "https://example.com/errors/empty", "status": 404, "detail": "no tea", "what": "tea"},
    ),
    "try-when": Case(
        """
- attempt:
    try:
    - fail: {raise: {error: empty}}
    catch: {when: '$error.status >= 500', do: [{tell: {set: {caught: true}}}]}
""",
        {},
        {"caught": True},
        head="use: {errors: {empty: {type: 'https://example.com/empty', status: 503}}}\n",
    ),
    "try-without-do": Case("- a: {try: [{x: {raise: {error: {type: t, status: 1}}}}], catch: {}}\n- b: {set: {left: '${ .kept }'}}", {"kept": 7}, {"left": 7}),
    # data-flow.feature: Input Filtering, Output Filtering
    "input-from": Case("- who: {input: {from: .user.claims.id}, set: {id: '${ . }'}}", {"user": {"claims": {"id": "x7"}}}, {"id": "x7"}),
    "input-from-do": Case("- who: {input: {from: .user}, do: [{name: {set: {dot: '${ .name }', in: '${ $input.name }'}}}]}", {"user": {"name": "Ada"}}, {"dot": "Ada", "in": "Ada"}),
    "output-as": Case("- a: {set: {x: {z: [1, 2]}}, output: {as: '.x.z[1]'}}", {}, 2),
    "output-as-sees-input": Case("- a: {set: {x: 2}, output: {as: '{ both: [ $input.num, .x ] }'}}", {"num": 1}, {"both": [1, 2]}),
    "output-of-fork": Case("- a: {fork: {branches: [{x: {set: {num: 1}}}, {z: {set: {num: 2}}}]}, output: {as: 'map(.num)'}}", {}, [1, 2]),
    # dsl.md, data flow: export and $context
    "export": Case(
        """
- a: {set: {token: abc, rest: 1}, export: {as: '{ token: .token }'}}
- b: {set: {other: 1}}
- c: {set: {token: '${ $context.token }', first: '${ $workflow.input.num }'}}
""",
        {"num": 5},
        {"token": "abc", "first": 5},
    ),
    # examples/conditional-task
    "if-skipped": Case("- a: {if: .wanted, set: {a: 1}}\n- b: {if: '.num > 1', set: {b: '${ .num }'}}", {"num": 2}, {"b": 2}),
    # examples/conditional-task: what is skipped doesn't lead to where it would have
    "if-skipped-then": Case("- a: {if: .wanted, set: {a: 1}, then: end}\n- b: {set: {b: '${ .num }'}}", {"num": 2}, {"b": 2}),
    "if-holds-then": Case("- a: {if: .wanted, set: {a: 1}, then: end}\n- b: {set: {b: 2}}", {"wanted": True}, {"a": 1}),
    "wait": Case("- a: {set: {num: 1}}\n- pause: {wait: {milliseconds: 20}}\n- b: {set: {num: '${ .num + 1 }'}}", {}, {"num": 2}),
    "function": Case("- a: {call: square, with: {num: '${ .side }'}}", {"side": 4}, {"num": 16}, head="use: {functions: {square: {set: {num: '${ .num * .num }'}}}}\n"),
    "workflow-input-output": Case("- a: {set: {num: '${ .x }'}}", {"in": {"x": 3}}, {"result": 3}, head="input: {from: .in}\noutput: {as: '{ result: .num }'}\n"),
    "text-interpolated": Case("- a: {set: {said: '${ \"Hello \\(.name)!\" }', plain: 'a ${ .name } b'}}", {"name": "Zoë"}, {"said": "Hello Zoë!", "plain": "a ${ .name } b"}),
}  # fmt: skip


async def run(convert: Convert, folder: Path, case: Case) -> Any:
    """The output of a case's workflow, imported and run."""
    found = convert(text=HEAD + case.head + "do:\n" + case.tasks.lstrip("\n"))
    assert found.report.lines() == []
    async with ControlPlane(folder) as env:
        await env.apply(to_yaml_documents(draft.to_object() for draft in found.objects))
        return (await env.run("workflow/case", input=case.given)).output


@pytest.mark.parametrize("name", CASES)
async def test_an_imported_workflow_gives_what_the_specification_says(
    convert: Convert, tmp_path: Path, name: str
) -> None:
    assert await run(convert, tmp_path, CASES[name]) == CASES[name].gives


async def test_an_error_that_nothing_catches_fails_the_run_as_it_was_raised(convert: Convert, tmp_path: Path) -> None:
    error = "{type: 'https://example.com/errors/rules', status: 400, title: Against the rules}"
    tasks = f"- a: {{try: [{{b: {{raise: {{error: {error}}}}}}}], catch: {{errors: {{with: {{status: 503}}}}, do: [{{c: {{set: {{x: 1}}}}}}]}}}}"
    found = convert(text=f"{HEAD}do:\n{tasks}\n")
    async with ControlPlane(tmp_path) as env:
        await env.apply(to_yaml_documents(draft.to_object() for draft in found.objects))
        with pytest.raises(Exception, match="Against the rules") as failed:
            await env.run("workflow/case")

    problem: Mapping[str, Any] = failed.value.result.error  # type: ignore[attr-defined]
    assert problem["type"] == "https://example.com/errors/rules"
    assert problem["details"]["status"] == 400
