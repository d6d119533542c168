"""The toolkit is described completely, and a use that makes no sense is refused with what would."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kastra.netguard import Guard, Policy
from kastra.tool.bodies import body_of
from kastra.tool.schema import JsonSchema
from kastra.tool.toolkit.body import signature
from kastra.tool.toolkit.catalogue import GROUPS, builtins, heeded, members, named, problem
from tests.support.toolbox import Toolbox

NAMES = sorted(builtins())


def test_there_are_at_least_fifty_tools_and_every_group_has_some() -> None:
    assert len(NAMES) >= 50
    assert set(Counter(tool.group for tool in builtins().values())) == set(GROUPS)


@pytest.mark.parametrize("name", NAMES)
def test_a_tool_says_what_it_does_and_what_it_takes(name: str) -> None:
    tool, schema = builtins()[name], signature(name).schema
    assert 10 <= len(tool.description) <= 160, "a model reads every one of these at every call"
    assert tool.description.endswith(".")
    JsonSchema(schema)
    assert schema["additionalProperties"] is False
    assert "kit" not in schema["properties"]
    assert tool.shown.replace("_", "a").isalnum(), "providers allow letters, digits, _ and -"
    assert len(tool.shown) <= 64
    assert set(tool.needs) <= set(tool.settings)


@pytest.mark.parametrize("name", NAMES)
def test_what_only_computes_or_reads_is_called_read_only(name: str) -> None:
    effect = builtins()[name].effect
    assert effect.read_only == (effect.title in ("computes", "reads", "fetches") and name != "http.download")
    assert not (effect.read_only and effect.destructive)


@pytest.mark.parametrize(
    ("name", "settings", "group", "field", "words"),
    [
        ("files.raed", {}, False, "name", "did you mean 'files.read'?"),
        ("nonsense", {}, False, "name", "kastra tools"),
        ("fils", {}, True, "name", "did you mean 'files'?"),
        ("files", {}, False, "name", "files.list"),
        ("files.read", {"hosts": ["x"]}, False, "hosts", "it has folder, maxBytes"),
        ("time.now", {"folder": "x"}, False, "folder", "it has none"),
        ("process.run", {}, False, "programs", "needs it"),
        ("process", {"folder": "x"}, True, "programs", "needs it"),
        ("http.send", {}, False, "hosts", "needs it"),
        ("files.read", {"readOnly": True}, False, "readOnly", "no such setting"),
    ],
)
def test_a_use_that_makes_no_sense_says_what_would(
    name: str, settings: dict[str, Any], group: bool, field: str, words: str
) -> None:
    found, message = problem(name, settings, group=group)
    assert found == field
    assert words in message


def test_a_group_leaves_out_what_its_settings_do_not_allow() -> None:
    names = [tool.name for tool in members("http", {})]
    assert "http.fetch" in names
    assert "http.send" not in names, "it needs a list of hosts"
    assert "http.send" in [tool.name for tool in members("http", {"hosts": ["x"]})]
    assert {tool.effect.read_only for tool in members("files", {"readOnly": True})} == {True}
    assert heeded(named("http.fetch")[0], {"folder": "x", "hosts": ["y"], "readOnly": True}) == {"hosts": ["y"]}


async def test_a_folder_outside_the_project_is_an_error_of_the_manifest(tmp_path: Path) -> None:
    async with Guard(Policy()) as guard:
        box = Toolbox(tmp_path, guard)
        for folder in ("../x", "/etc", "a/../..", "a\0b"):
            with pytest.raises(ValueError, match=r"spec\.builtin\.folder"):
                await body_of("t", {"builtin": {"name": "files.read", "folder": folder}}, box.services)


def test_the_catalogue_imports_nothing_heavy() -> None:
    source = (
        "import sys; from kastra.tool.toolkit.catalogue import builtins; builtins()\n"
        "print([m for m in ('pydantic', 'bs4', 'markdownify', 're2', 'jsonschema', 'httpcore2', 'cronsim') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
