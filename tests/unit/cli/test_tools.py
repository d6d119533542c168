"""`kastra tools` lists the built-in toolkit and describes each tool of it."""

import json

import pytest
from click.testing import CliRunner

from kastra.cli.main import cli


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["tools", *arguments])
    return done.exit_code, done.output


def test_all_tools_are_listed_with_what_they_may_do() -> None:
    code, text = run()
    lines = text.splitlines()
    assert code == 0
    assert lines[0].split() == ["NAME", "EFFECT", "DESCRIPTION"]
    assert len(lines) > 50
    assert any(line.startswith("files.delete") and "deletes" in line for line in lines)


def test_a_group_is_listed_alone() -> None:
    code, text = run("time", "--no-headers")
    assert code == 0
    assert {line.split(".")[0] for line in text.splitlines()} == {"time"}


def test_a_tool_is_described_with_its_arguments() -> None:
    code, text = run("files.grep")
    assert code == 0
    assert "AS A TOOL:   files_grep" in text
    assert "required" in text
    assert "Regular expression (RE2)." in text


def test_programs_get_schemas() -> None:
    code, text = run("math.round", "-o", "json")
    found = json.loads(text)
    assert code == 0
    assert found["inputSchema"]["required"] == ["value"]
    assert found["annotations"]["readOnly"] is True
    assert len(json.loads(run("-o", "json")[1])) > 50
    assert run("json", "-o", "yaml")[1].startswith("- name: json.parse")


@pytest.mark.parametrize(("name", "words"), [("fils", "did you mean 'files'"), ("nope", "there is no built-in tool")])
def test_what_is_not_there_is_named(name: str, words: str) -> None:
    code, text = run(name)
    assert code == 1
    assert words in text
