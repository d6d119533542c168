"""`version`, `doctor`, `backup`, `restore`, `validate`, `api-resources`, `completion`, and what goes wrong at the very start."""

import json
from typing import Any

import pytest

from kastra.version import __version__

Kastra = Any


def test_version_tells_library_and_sqlite(kitchen: Kastra) -> None:
    told = json.loads(kitchen("version", "-o", "json").stdout)
    assert told["kastra"] == __version__
    assert set(told) == {"kastra", "python", "platform", "driver", "sqlite"}
    assert kitchen("version").lines[0].split() == ["kastra:", __version__]


def test_doctor_finds_a_sound_store_sound(kitchen: Kastra) -> None:
    told = kitchen("doctor", "-o", "json")
    assert told.code == 0, told.stdout
    findings = {finding["subject"]: finding for finding in json.loads(told.stdout) if finding["level"] == "ok"}
    assert {"kastra", "project", "controllers", "store", "disk"} <= set(findings)


def test_doctor_reports_damage_and_what_to_do(changeable: Kastra) -> None:
    store = changeable.folder / ".kastra" / "kastra.db"
    store.write_bytes(b"this is no database" * 1000)
    told = changeable("doctor")
    assert told.code == 1
    assert any(line.startswith("error    store: ") for line in told.lines)
    assert "kastra restore FILE --force" in told.stdout


def test_doctor_reports_a_controller_that_does_not_load(changeable: Kastra) -> None:
    (changeable.folder / "controllers").mkdir()
    (changeable.folder / "controllers" / "broken.py").write_text("import nothing_of_that_name\n")
    told = changeable("doctor")
    assert told.code == 1
    assert any(line.startswith("error    controllers: ") and "nothing_of_that_name" in line for line in told.lines)


def test_a_backup_can_be_restored(changeable: Kastra) -> None:
    made = changeable("backup", "copy.db")
    assert made.code == 0, made.stderr
    assert "secret.key, which is not part of it" in made.stderr
    changeable("delete", "agents", "--all", "-n", "kitchen")
    refused = changeable("restore", "copy.db")
    assert refused.code == 1
    assert "restoring would replace it (--force)" in refused.stderr
    assert changeable("restore", "copy.db", "--force").code == 0
    assert "agent.mastra.ai/cook" in changeable("get", "agents", "-n", "kitchen", "-o", "name").lines


def test_a_backup_needs_a_store_and_a_new_name(kitchen: Kastra, empty: Kastra) -> None:
    assert "there is no store at" in empty("backup", "copy.db").stderr
    assert "exists; choose another name" in kitchen("backup", "kitchen.yaml").stderr


def test_validate_needs_no_store_and_reports_places(empty: Kastra) -> None:
    fine = empty("validate", "kitchen.yaml")
    assert (fine.code, fine.stdout) == (0, "6 objects are valid\n"), fine.stderr
    assert not (empty.folder / ".kastra").exists()
    (empty.folder / "bad.yaml").write_text("apiVersion: mastra.ai/v1\nkind: Agnet\nmetadata: {name: x}\n")
    bad = empty("validate", "kitchen.yaml", "bad.yaml")
    assert bad.code == 1
    assert 'bad.yaml:2:1 error kind: no matches for kind "Agnet"' in bad.stderr
    assert 'did you mean "Agent" (mastra.ai/v1)?' in bad.stderr
    assert bad.stdout == "6 objects are valid\n"


def test_surprising_yaml_is_a_warning_or_with_strict_an_error(empty: Kastra) -> None:
    (empty.folder / "yes.yaml").write_text(
        "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {name: x}\nspec: {instructions: hi, memory: yes}\n"
    )
    assert empty("validate", "yes.yaml").code == 0
    assert " warning " in empty("validate", "yes.yaml").stderr
    assert empty("validate", "yes.yaml", "--strict-yaml").code == 1
    assert empty("validate").code == 2


def test_api_resources_can_be_narrowed_and_named(kitchen: Kastra) -> None:
    listed = kitchen("api-resources", "--api-group", "mastra.ai", "-o", "wide")
    assert listed.lines[0].split()[:5] == ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    agent = next(line.split() for line in listed.lines if line.startswith("agents "))
    assert agent[:5] == ["agents", "ag", "mastra.ai/v1", "true", "Agent"]
    assert agent[-1] == "kastra,all"
    cluster_scoped = kitchen("api-resources", "--namespaced", "false", "-o", "name").lines
    assert "namespaces" in cluster_scoped
    assert "agents.mastra.ai" not in cluster_scoped
    assert kitchen("api-resources", "--api-group", "", "--no-headers").lines[0].startswith("configmaps")
    kinds = [line.split()[-1] for line in kitchen("api-resources", "--sort-by", "kind").lines[1:]]
    assert kinds == sorted(kinds)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script(kitchen: Kastra, shell: str) -> None:
    assert "_KASTRA_COMPLETE" in kitchen("completion", shell).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("kastra desc", ["describe"]),
        ("kastra get wor", ["workflows"]),
        ("kastra get -n kitchen agents ", ["cook", "waiter"]),
        ("kastra get -n kitchen agents cook ", ["waiter"]),
        ("kastra describe -n kitchen agent/w", ["agent/waiter"]),
        ("kastra get nonsense ", []),
    ],
)
def test_kinds_and_names_are_completed_from_the_store(kitchen: Kastra, words: str, expected: list[str]) -> None:
    env = {"_KASTRA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    assert [line.partition(",")[2] for line in kitchen(env=env).lines if line] == expected


def test_an_unknown_verb_gets_a_suggestion(kitchen: Kastra) -> None:
    refused = kitchen("aply")
    assert refused.code == 2
    assert 'no such verb "aply"; did you mean "apply"?' in refused.stderr


def test_help_lists_the_verbs(kitchen: Kastra) -> None:
    shown = kitchen("--help")
    assert shown.code == 0
    assert "describe" in shown.stdout


def test_a_broken_settings_file_is_named(changeable: Kastra) -> None:
    (changeable.folder / "kastra.toml").write_text("colour = 'red'\n")
    refused = changeable("get", "agents")
    assert refused.code == 1
    assert "kastra.toml: colour: no such setting" in refused.stderr


def test_the_store_can_lie_elsewhere(kitchen: Kastra, empty: Kastra) -> None:
    found = empty("--data", kitchen.folder / ".kastra", "get", "agents", "-n", "kitchen", "-o", "name")
    assert "agent.mastra.ai/cook" in found.lines
