"""`kastra delete` deletes exactly what was meant, and waits until it is gone."""

from typing import Any

import pytest

Kastra = Any


def names(project: Kastra, kind: str) -> list[str]:
    return project("get", kind, "-n", "kitchen", "-o", "jsonpath={.items[*].metadata.name}").stdout.split()


def test_objects_are_deleted_by_name(changeable: Kastra) -> None:
    deleted = changeable("delete", "agent", "cook", "waiter", "-n", "kitchen")
    assert (deleted.code, deleted.lines) == (
        0,
        ['agent.mastra.ai "cook" deleted', 'agent.mastra.ai "waiter" deleted'],
    )
    assert names(changeable, "agents") == []


def test_by_labels_and_all_of_a_kind(changeable: Kastra) -> None:
    assert changeable("delete", "agents", "-l", "team=food", "-n", "kitchen").code == 0
    assert names(changeable, "agents") == ["waiter"]
    assert changeable("delete", "agents", "--all", "-n", "kitchen", "-o", "name").lines == ["agent.mastra.ai/waiter"]


def test_what_files_declare_goes_in_reverse_order(changeable: Kastra) -> None:
    deleted = changeable("delete", "-f", "kitchen.yaml")
    assert deleted.code == 0
    kinds = [line.split()[0] for line in deleted.lines]
    assert kinds.index("workflow.mastra.ai") < kinds.index("agent.mastra.ai") < kinds.index("tool.mastra.ai")


def test_a_namespace_takes_what_is_in_it_along(changeable: Kastra) -> None:
    deleted = changeable("delete", "ns", "kitchen")
    assert (deleted.code, deleted.stderr) == (0, "")
    assert names(changeable, "agents") == []


@pytest.mark.parametrize(("mode", "note"), [("client", "(dry run)"), ("server", "(server dry run)")])
def test_a_dry_run_deletes_nothing(changeable: Kastra, mode: str, note: str) -> None:
    deleted = changeable("delete", "agent/cook", "-n", "kitchen", f"--dry-run={mode}")
    assert (deleted.code, deleted.stdout) == (0, f'agent.mastra.ai "cook" deleted {note}\n')
    assert "cook" in names(changeable, "agents")


def test_a_missing_object_is_an_error_unless_that_is_fine(changeable: Kastra) -> None:
    deleted = changeable("delete", "agent", "nobody")
    assert deleted.code == 1
    assert deleted.stderr == 'Error from server (NotFound): agents.mastra.ai "nobody" not found\n'
    assert changeable("delete", "agent", "nobody", "--ignore-not-found").code == 0


def test_an_object_that_a_finalizer_holds_is_reported(changeable: Kastra) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.com/never]}\n"
    changeable("apply", "-f", "-", stdin=manifest)
    deleted = changeable("delete", "cm", "held", "--timeout", "100ms")
    assert deleted.code == 1
    assert "timed out waiting for configmap/held to be gone; example.com/never may hold it" in deleted.stderr
    assert changeable("delete", "cm", "held", "--no-wait").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to delete"),
        (["agents"], "no name was specified"),
        (["agent", "x", "--all"], "setting 'all' parameter but found a non empty name"),
        (["agent", "x", "-f", "kitchen.yaml"], "-f already says which objects"),
        (["agent", "x", "--cascade", "sideways"], "sideways"),
    ],
)
def test_wrong_use_is_refused(kitchen: Kastra, arguments: list[str], message: str) -> None:
    deleted = kitchen("delete", *arguments)
    assert deleted.code == 2
    assert message in deleted.stderr
