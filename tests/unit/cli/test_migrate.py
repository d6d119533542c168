"""`kastra migrate`: exit codes, files, keys and the report."""

import json
import stat

import pytest

OLD = """\
version: "1"
providers: {openai: {apiKey: sk-canary-canary-canary}}
agents: {cook: {instructions: You cook., model: openai/gpt-4o}}
"""
BAD = OLD + "tools: {js: {description: JS., execute: ./x.js}}\n"
NEW = "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {name: cook}\nspec: {instructions: You cook.}\n"


def test_everything_converted_is_success(empty) -> None:
    (empty.folder / "old.yaml").write_text(OLD)
    result = empty("migrate", "old.yaml", "-o", "new")
    assert result.code == 0, result.stderr
    assert sorted(path.name for path in (empty.folder / "new").rglob("*.yaml")) == [
        "cook.yaml",
        "openai-gpt-4o.yaml",
        "openai.yaml",
        "openai.yaml",
    ]
    assert "4 objects converted" in result.stderr
    assert empty("validate", "new").code == 0


def test_something_not_converted_is_exit_code_1(empty) -> None:
    (empty.folder / "old.yaml").write_text(BAD)
    result = empty("migrate", "old.yaml", "-o", "new")
    assert result.code == 1
    assert "old.yaml:4:32 not-migrated Tool/js tools.js.execute: JavaScript can't run here" in result.stderr


@pytest.mark.parametrize(
    "arguments", [(), ("absent.yaml",), ("old.yaml", "--secrets=write"), ("broken.yaml",)], ids=str
)
def test_wrong_usage_and_what_can_not_be_read_are_exit_code_2(arguments: tuple[str, ...], empty) -> None:
    (empty.folder / "old.yaml").write_text(OLD)
    (empty.folder / "broken.yaml").write_text("a: [")
    assert empty("migrate", *arguments).code == 2


def test_what_is_of_todays_form_is_left_alone(empty) -> None:
    (empty.folder / "now.yaml").write_text(NEW)
    result = empty("migrate", "now.yaml", "-o", "new")
    assert result.code == 0
    assert not (empty.folder / "new").exists()
    assert "0 objects converted, 1 object of today's form already, left as it is" in result.stderr


def test_standard_input_is_converted_to_standard_output(empty) -> None:
    result = empty(
        "migrate",
        "-",
        stdin=json.dumps({"kind": "Agent", "name": "a", "instructions": "Hi.", "model": "openai/gpt-4o"}),
    )
    assert result.code == 0
    assert result.stdout.startswith("apiVersion: mastra.ai/v1\nkind: Agent\n")


def test_files_that_exist_are_not_overwritten_without_force(empty) -> None:
    (empty.folder / "old.yaml").write_text(OLD)
    assert empty("migrate", "old.yaml", "-o", "new").code == 0
    agent = empty.folder / "new" / "agents" / "cook.yaml"
    agent.write_text("mine")
    refused = empty("migrate", "old.yaml", "-o", "new")
    assert refused.code == 1
    assert "exists; nothing was written" in refused.stderr
    assert agent.read_text() == "mine"
    assert empty("migrate", "old.yaml", "-o", "new", "--force").code == 0
    assert agent.read_text() != "mine"


def test_a_link_in_the_way_is_not_followed(empty) -> None:
    (empty.folder / "old.yaml").write_text(OLD)
    (empty.folder / "new" / "agents").mkdir(parents=True)
    (empty.folder / "target").write_text("precious")
    (empty.folder / "new" / "agents" / "cook.yaml").symlink_to(empty.folder / "target")
    assert empty("migrate", "old.yaml", "-o", "new", "--force").code == 1
    assert (empty.folder / "target").read_text() == "precious"


def test_keys_stay_out_of_everything_unless_they_are_asked_for(empty) -> None:
    (empty.folder / "old.yaml").write_text(OLD)
    result = empty("migrate", "old.yaml", "-o", "new", "--report", "report.json")
    written = "".join(
        path.read_text() for path in [*(empty.folder / "new").rglob("*.yaml"), empty.folder / "report.json"]
    )
    assert "canary" not in written + result.stdout + result.stderr
    assert "REPLACE-ME" in written


def test_keys_that_are_asked_for_are_readable_by_their_owner_alone(empty) -> None:
    (empty.folder / "old.yaml").write_text(OLD)
    result = empty("migrate", "old.yaml", "-o", "new", "--secrets=write", "--report", "-")
    secret = empty.folder / "new" / "secrets" / "openai.yaml"
    assert "sk-canary-canary-canary" in secret.read_text()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "canary" not in result.stdout + result.stderr


def test_the_report_is_json_too(empty) -> None:
    (empty.folder / "old.yaml").write_text(BAD)
    result = empty("migrate", "old.yaml", "-o", "new", "--report", "-")
    report = json.loads(result.stdout)
    assert report["complete"] is False
    assert {"kind": "Tool", "name": "js", "namespace": "", "migrated": False} in report["objects"]
    (finding,) = [one for one in report["findings"] if one["level"] == "not-migrated"]
    assert (finding["file"], finding["line"], finding["field"]) == ("old.yaml", 4, "tools.js.execute")
    assert finding["advice"]


def test_nothing_outside_of_the_folder_is_included(empty) -> None:
    (empty.folder / "sub").mkdir()
    (empty.folder / "outside.yaml").write_text(OLD)
    (empty.folder / "sub" / "link.yaml").symlink_to(empty.folder / "outside.yaml")
    (empty.folder / "sub" / "pod.yaml").write_text(
        "kind: MastraPod\nversion: '1'\nresources: [{file: ../outside.yaml}, {file: link.yaml}, {directory: ..}, {file: pod.yaml}]\n"
    )
    result = empty("migrate", "sub/pod.yaml")
    assert result.code == 1
    assert result.stdout == ""
    assert result.stderr.count("lies outside of the folder") == 3
