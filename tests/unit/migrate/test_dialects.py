"""Every dialect, container and shape has a fixture; what becomes of it stands in `golden/`, with the report below it.

.venv/bin/python -m tests.unit.migrate.test_dialects      writes golden/ anew; read the difference
"""

import re
import sys
import tempfile
from pathlib import Path

import pytest

from kastra.config import Settings
from kastra.migrate.write import files_of, write
from kastra.testing import ControlPlane
from tests.unit.migrate.conftest import FIXTURES, GOLDEN, Convert, golden_text, today_in

NAMES = sorted(path.name for path in FIXTURES.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_fixture_becomes_what_its_golden_file_says(name: str, convert: Convert) -> None:
    assert golden_text(convert(FIXTURES / name)) == (GOLDEN / f"{name}.golden").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
async def test_all_that_is_written_can_be_applied(name: str, convert: Convert, tmp_path: Path) -> None:
    write(files_of(convert(FIXTURES / name).objects), tmp_path / "out")
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as env:
        report = await env.apply(tmp_path / "out")
        assert report.ok, report.problems


@pytest.mark.parametrize("name", NAMES)
def test_migrating_what_was_migrated_changes_nothing(name: str, convert: Convert, tmp_path: Path) -> None:
    first = convert(FIXTURES / name)
    write(files_of(first.objects), tmp_path / "out")
    again = convert(tmp_path / "out")
    assert again.objects == []
    assert len(again.unchanged) == len(first.objects)
    assert again.report.complete


@pytest.mark.parametrize("name", NAMES)
def test_no_key_of_a_fixture_is_in_its_golden_file(name: str) -> None:
    path = FIXTURES / name
    sources = [file.read_text() for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    keys = {
        key
        for text in sources
        for key in re.findall(r"sk-\w+|hunter\w+|very-secret-\S*\w|my-own-password|super-secret\S*", text)
    }
    golden = (GOLDEN / f"{name}.golden").read_text(encoding="utf-8")
    assert [key for key in keys if key in golden] == []


async def test_a_stub_is_not_ready_and_says_what_is_missing(convert: Convert, tmp_path: Path) -> None:
    write(files_of(convert(FIXTURES / "tools.yaml").objects), tmp_path / "out")
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as env:
        await env.apply(tmp_path / "out")
        await env.settle()
        tool = await env.get("Tool", "pathed")
        assert tool.condition("Ready")["reason"] == "NotMigrated"
        assert tool.condition("NotMigrated")["status"] == "True"
        assert "tools.pathed.execute: JavaScript can't run here" in tool.condition("NotMigrated")["message"]
        await env.apply(
            {
                "apiVersion": "mastra.ai/v1",
                "kind": "Tool",
                "metadata": {"name": "pathed"},
                "spec": {"description": "Written anew.", "python": {"inline": "def pathed() -> str:\n    return ''\n"}},
            }
        )
        await env.settle()
        tool = await env.get("Tool", "pathed")
        assert tool.condition("NotMigrated")["status"] == "False"
        assert tool.condition("Ready")["status"] == "True"


RUNNABLE = """
version: "1"
tools:
  measure: {description: Measures., implementation: {language: python, code: "def measure(city: str) -> dict:\\n    return {'temp': len(city)}\\n"}}
  warm: {description: Warm., implementation: {language: python, code: "def warm(was: int) -> str:\\n    return f'warm {was}'\\n"}}
  cold: {description: Cold., implementation: {language: python, code: "def cold(was: int) -> str:\\n    return f'cold {was}'\\n"}}
workflows:
  weather:
    steps:
      get: {type: tool, tool: measure, input: {city: "{{ workflow.input.city }}"}, next: {condition: {if: "{{ steps.get.output.temp > 5 }}", then: warm, else: cold}}}
      warm: {type: tool, tool: warm, config: {inputs: [{name: was, source: steps.get.outputs.temp}]}}
      cold: {type: tool, tool: cold, inputs: {was: "${steps.get.output.temp}"}}
"""


@pytest.mark.parametrize(("city", "expected"), [("Barcelona", "warm 9"), ("Oslo", "cold 4")])
async def test_a_migrated_workflow_runs(city: str, expected: str, convert: Convert, tmp_path: Path) -> None:
    found = convert(text=RUNNABLE)
    assert found.report.complete
    write(files_of(found.objects), tmp_path / "out")
    async with ControlPlane(settings=Settings(project=tmp_path)) as env:
        await env.apply(tmp_path / "out")
        await env.settle()
        result = await env.run("workflow/weather", {"city": city})
        assert result.output == expected


STORED = """
{"id": "stored", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}, "graph": [
  {"type": "mapping", "id": "in", "mapConfig": {"n": {"initData": true, "path": "n"}}},
  {"type": "loop", "id": "up", "loopType": "dountil", "step": {"type": "tool", "id": "more", "toolId": "more"},
   "predicate": {"op": "gte", "left": {"path": "inputData.n"}, "right": {"literal": 3}}},
  {"type": "conditional", "steps": [{"type": "tool", "id": "odd", "toolId": "name-odd"}, {"type": "tool", "id": "even", "toolId": "name-even"}],
   "predicates": [{"op": "in", "value": {"path": "inputData.n"}, "set": [3, 5]}, {"op": "notIn", "value": {"path": "inputData.n"}, "set": [3, 5]}]},
  {"type": "mapping", "id": "out", "mapConfig": {"said": {"step": ["odd", "even"], "path": "name"}, "text": {"template": "n was ${initData.n}"}}}
]}
"""
STORED_TOOLS = """
tools:
  more: {description: "", implementation: {language: python, code: "def more(n: int) -> dict:\\n    return {'n': n + 1}\\n"}}
  name-odd: {description: "", implementation: {language: python, code: "def odd(n: int) -> dict:\\n    return {'name': 'odd'}\\n"}}
  name-even: {description: "", implementation: {language: python, code: "def even(n: int) -> dict:\\n    return {'name': 'even'}\\n"}}
"""


@pytest.mark.parametrize(("number", "said"), [(0, "odd"), (3, "even")])
async def test_a_stored_workflow_runs(number: int, said: str, convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "stored.json").write_text(STORED)
    (tmp_path / "tools.yaml").write_text(STORED_TOOLS)
    found = convert(tmp_path / "stored.json", tmp_path / "tools.yaml")
    assert found.report.complete
    write(files_of(found.objects), tmp_path / "out")
    async with ControlPlane(settings=Settings(project=tmp_path)) as env:
        await env.apply(tmp_path / "out")
        await env.settle()
        result = await env.run("workflow/stored", {"n": number})
        assert result.output == {"said": said, "text": f"n was {number}"}


def main() -> None:
    """Write the golden files anew."""
    with tempfile.TemporaryDirectory() as folder:
        convert = Convert(today_in(Path(folder)))
    for name in NAMES:
        (GOLDEN / f"{name}.golden").write_text(golden_text(convert(FIXTURES / name)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
