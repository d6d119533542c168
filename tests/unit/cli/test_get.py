"""`kastra get` prints what kubectl would."""

import json
from typing import Any

import pytest

Kastra = Any


def columns(line: str) -> list[str]:
    return line.split()


def test_a_kind_is_a_table_with_the_columns_of_the_kind(kitchen: Kastra) -> None:
    found = kitchen("get", "agents", "-n", "kitchen")
    assert found.code == 0
    assert columns(found.lines[0]) == ["NAME", "MODEL", "TOOLS", "RUNS", "READY", "AGE"]
    assert [columns(line)[0] for line in found.lines[1:]] == ["cook", "waiter"]


def test_config_maps_and_secrets_show_how_many_keys_they_have(kitchen: Kastra) -> None:
    found = kitchen("get", "configmaps,secrets", "-n", "kitchen")
    maps, secrets = (part.splitlines() for part in found.stdout.split("\n\n"))
    assert columns(maps[0]) == ["NAME", "DATA", "AGE"]
    assert columns(maps[1])[:2] == ["configmap/prices", "1"]
    assert columns(secrets[0]) == ["NAME", "TYPE", "DATA", "AGE"]
    assert columns(secrets[1])[:3] == ["secret/key", "Opaque", "1"]


def test_all_namespaces_have_a_column_of_their_own(kitchen: Kastra) -> None:
    found = kitchen("get", "tools", "-A")
    assert columns(found.lines[0])[:2] == ["NAMESPACE", "NAME"]
    assert columns(found.lines[1])[:2] == ["kitchen", "finder"]


def test_several_kinds_are_separate_tables_of_qualified_names(kitchen: Kastra) -> None:
    found = kitchen("get", "agents,tools", "-n", "kitchen")
    first, second = found.stdout.split("\n\n")
    assert first.splitlines()[1].startswith("agent.mastra.ai/cook ")
    assert second.splitlines()[1].startswith("tool.mastra.ai/finder ")


def test_a_category_lists_all_of_its_kinds_and_leaves_out_empty_ones(kitchen: Kastra) -> None:
    found = kitchen("get", "kastra", "-n", "kitchen", "-o", "name")
    assert found.lines == [
        "agent.mastra.ai/cook",
        "agent.mastra.ai/waiter",
        "run.mastra.ai/first",
        "tool.mastra.ai/finder",
        "workflow.mastra.ai/dinner",
    ]
    assert kitchen("get", "all", "-n", "kitchen", "-o", "name").lines == found.lines


def test_one_object_prints_itself_and_several_a_list(kitchen: Kastra) -> None:
    one = json.loads(kitchen("get", "agent/cook", "-n", "kitchen", "-o", "json").stdout)
    assert (one["kind"], one["metadata"]["name"]) == ("Agent", "cook")
    assert "managedFields" not in one["metadata"]
    several = json.loads(kitchen("get", "agents", "-n", "kitchen", "-o", "json").stdout)
    assert (several["kind"], len(several["items"])) == ("List", 2)


def test_yaml_starts_with_what_people_look_for(kitchen: Kastra) -> None:
    assert kitchen("get", "cm", "prices", "-n", "kitchen", "-o", "yaml").lines[:2] == [
        "apiVersion: v1",
        "kind: ConfigMap",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "jsonpath={.items[*].metadata.name}"], "cook waiter"),
        (["-o", "custom-columns=N:.metadata.name", "--no-headers"], "cook\nwaiter\n"),
        (["-o", "name", "-l", "team=food"], "agent.mastra.ai/cook\n"),
        (["-o", "name", "--field-selector", "metadata.name=waiter"], "agent.mastra.ai/waiter\n"),
        (["--sort-by", "{.metadata.labels.team}", "-o", "name"], "agent.mastra.ai/waiter\nagent.mastra.ai/cook\n"),
    ],
)
def test_formats_and_selectors(kitchen: Kastra, arguments: list[str], expected: str) -> None:
    assert kitchen("get", "agents", "-n", "kitchen", *arguments).stdout == expected


def test_labels_headers_and_kinds_can_be_shown_or_left_out(kitchen: Kastra) -> None:
    found = kitchen("get", "agents", "-n", "kitchen", "--show-labels", "--no-headers", "--show-kind")
    assert columns(found.lines[0])[0] == "agent.mastra.ai/cook"
    assert columns(found.lines[0])[-1] == "team=food"
    assert columns(found.lines[1])[-1] == "<none>"


def test_what_a_file_declares_can_be_got(kitchen: Kastra) -> None:
    found = kitchen("get", "-f", "kitchen.yaml", "-o", "name")
    assert "workflow.mastra.ai/dinner" in found.lines
    assert kitchen("get", "agents", "-f", "kitchen.yaml").code == 1


def test_a_name_that_is_not_there_is_an_error_and_the_others_are_printed(kitchen: Kastra) -> None:
    found = kitchen("get", "agent", "cook", "nobody", "-n", "kitchen")
    assert found.code == 1
    assert columns(found.lines[1])[0] == "cook"
    assert found.stderr == 'Error from server (NotFound): agents.mastra.ai "nobody" not found\n'
    assert kitchen("get", "agent", "nobody", "--ignore-not-found").code == 0


def test_nothing_found_is_said_and_is_no_error(kitchen: Kastra) -> None:
    found = kitchen("get", "networks")
    assert (found.code, found.stdout, found.stderr) == (0, "", "No resources found in default namespace.\n")
    assert kitchen("get", "networks", "-A").stderr == "No resources found.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agnts"], 'error: the server doesn\'t have a resource type "agnts"; did you mean "agents"?'),
        (["agents", "-o", "xml"], "unable to match a printer"),
        (["agent", "cook", "-l", "a=b"], "name cannot be provided when a selector is specified"),
        (["agent", "cook", "-A"], "a resource cannot be retrieved by name across all namespaces"),
        (["agents", "-l", "a=b=c"], "Error from server (BadRequest): "),
        (["agents", "--sort-by", "{.a[}"], "error: "),
        (["agents,tools", "-w"], "you may only specify a single resource type"),
        ([], "You must specify the type of resource"),
    ],
)
def test_wrong_use_is_refused_with_the_reason(kitchen: Kastra, arguments: list[str], message: str) -> None:
    found = kitchen("get", *arguments)
    assert found.code == 1
    assert message in found.stderr
    assert found.stdout == ""


def test_a_store_that_does_not_exist_is_an_empty_one_with_the_built_in_kinds(empty: Kastra) -> None:
    found = empty("get", "agents")
    assert (found.code, found.stderr) == (0, "No resources found in default namespace.\n")
    assert not (empty.folder / ".kastra").exists()
    assert "runs.mastra.ai" in empty("api-resources", "-o", "name").lines
