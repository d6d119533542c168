"""`label`, `annotate`, `edit` and `diff` change objects, or say how they would."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kastra.api.meta import ObjectRef
from kastra.cli.diff import difference
from kastra.cli.label import needed_changes, split_changes

Kastra = Any
Editor = Callable[[str], dict[str, str]]
HERE = ("-n", "kitchen")


def test_labels_are_set_changed_and_removed(changeable: Kastra) -> None:
    assert changeable("label", "agent", "cook", "tier=1", *HERE).stdout == "agent.mastra.ai/cook labeled\n"
    assert changeable("label", "agent/cook", "tier=1", *HERE).stdout == "agent.mastra.ai/cook not labeled\n"
    refused = changeable("label", "agent/cook", "tier=2", *HERE)
    assert refused.code == 1
    assert "'tier' already has a value (1), and --overwrite is false" in refused.stderr
    assert changeable("label", "agent/cook", "tier=2", "--overwrite", *HERE).code == 0
    assert changeable("label", "agents", "--all", "team-", *HERE).lines == [
        "agent.mastra.ai/cook unlabeled",
        "agent.mastra.ai/waiter not labeled",
    ]
    assert changeable("label", "agent/cook", "--list", *HERE).stdout == "tier=2\n"


def test_annotations_may_hold_any_text(changeable: Kastra) -> None:
    changed = changeable("annotate", "agent", "cook", "note=a = b - c", *HERE)
    assert changed.stdout == "agent.mastra.ai/cook annotated\n"
    assert changeable("annotate", "agent/cook", "--list", *HERE).stdout == "note=a = b - c\n"


def test_a_dry_run_labels_nothing(changeable: Kastra) -> None:
    changed = changeable("label", "agent/cook", "a=b", "--dry-run=client", *HERE)
    assert changed.stdout == "agent.mastra.ai/cook labeled (dry run)\n"
    assert changeable("label", "agent/cook", "--list", *HERE).stdout == "team=food\n"


def test_a_label_that_is_not_allowed_is_refused_by_the_server(changeable: Kastra) -> None:
    refused = changeable("label", "agent/cook", "team=not a label", "--overwrite", *HERE)
    assert refused.code == 1
    assert refused.stderr.startswith("error: agent/cook: ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["agent", "cook"], 2, "at least one label update is required"),
        (["a=b"], 2, "one or more resources must be specified"),
        (["agents", "a=b"], 2, "say which objects"),
        (["agent", "cook", "a=b", "waiter"], 1, "all resources must be specified before changes"),
        (["agent", "cook", "a=b", "a-"], 1, '"a" is given twice'),
        (["agent", "cook", "--list", "a=b"], 2, "--list prints labels"),
    ],
)
def test_wrong_use_of_label_is_refused(kitchen: Kastra, arguments: list[str], code: int, message: str) -> None:
    refused = kitchen("label", *arguments)
    assert refused.code == code
    assert message in refused.stderr


def test_arguments_are_objects_first_and_changes_after() -> None:
    assert split_changes(["agent", "x", "a=b=c", "d-", "e="]) == (["agent", "x"], {"a": "b=c", "d": None, "e": ""})
    assert needed_changes({"a": "1", "b": "2"}, {"a": "1", "b": None, "c": None, "d": "4"}, overwrite=False) == {
        "b": None,
        "d": "4",
    }


def test_an_edit_is_stored(changeable: Kastra, editor: Editor) -> None:
    edited = changeable("edit", "agent/cook", *HERE, env=editor("sed -i 's/You cook/You bake/' $1"))
    assert (edited.code, edited.stdout) == (0, "agent.mastra.ai/cook edited\n")
    spec = changeable("get", "agent/cook", "-o", "jsonpath={.spec.instructions}", *HERE)
    assert spec.stdout == "You bake."


@pytest.mark.parametrize("script", ["true", ": > $1"])
def test_no_change_or_an_empty_file_cancels(kitchen: Kastra, editor: Editor, script: str) -> None:
    edited = kitchen("edit", "agent/cook", *HERE, env=editor(script))
    assert (edited.code, edited.stdout) == (0, "Edit cancelled, no changes made.\n")


def test_a_refusal_opens_the_editor_again_with_the_reason(changeable: Kastra, editor: Editor) -> None:
    first, second = "s/^  instructions:/  maxStps: 3\\n  instructions:/", "s/^  maxStps/  maxSteps/"
    script = f'if grep -q "# .*unknown field" $1; then sed -i "{second}" $1; else sed -i "{first}" $1; fi'
    edited = changeable("edit", "agent/cook", *HERE, env=editor(script))
    assert (edited.code, edited.stdout) == (0, "agent.mastra.ai/cook edited\n")
    assert changeable("get", "agent/cook", "-o", "jsonpath={.spec.maxSteps}", *HERE).stdout == "3"


def test_giving_up_after_a_refusal_keeps_the_text(kitchen: Kastra, editor: Editor) -> None:
    script = 'grep -q "# .*can.t be changed" $1 || sed -i "s/^  name: cook/  name: other/" $1'
    edited = kitchen("edit", "agent/cook", *HERE, env=editor(script))
    assert edited.code == 1
    assert "no valid changes were saved. A copy of your changes is in " in edited.stderr
    kept = Path(edited.stderr.strip().rpartition(" ")[2])
    assert "name: other" in kept.read_text()
    shutil.rmtree(kept.parent)


def test_an_editor_that_fails_or_is_not_there_is_reported(kitchen: Kastra, editor: Editor) -> None:
    failed = kitchen("edit", "agent/cook", *HERE, env=editor("exit 3"))
    assert failed.code == 1
    assert "it ended with code 3" in failed.stderr
    absent = kitchen("edit", "agent/cook", *HERE, env={"KUBE_EDITOR": "/nowhere/vi"})
    assert "can't be started" in absent.stderr


def test_diff_shows_what_apply_would_change_and_exits_1(kitchen: Kastra) -> None:
    same = kitchen("diff", "-f", "kitchen.yaml")
    assert (same.code, same.stdout) == (0, ""), same.stderr
    text = (kitchen.folder / "kitchen.yaml").read_text().replace("You cook.", "You bake.")
    changed = kitchen("diff", "-f", "-", stdin=text)
    assert changed.code == 1
    assert changed.lines[:2] == ["--- live/agent.mastra.ai/kitchen/cook", "+++ applied/agent.mastra.ai/kitchen/cook"]
    assert [line for line in changed.lines if line[0] in "+-"][2:] == [
        "-  instructions: You cook.",
        "+  instructions: You bake.",
    ]


def test_diff_shows_new_objects_whole_even_in_new_namespaces(kitchen: Kastra) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: new, namespace: elsewhere}\ndata: {a: b}\n"
    changed = kitchen("diff", "-f", "-", stdin=manifest)
    assert changed.code == 1
    assert "+  a: b" in changed.lines


def test_diff_exits_2_on_errors(kitchen: Kastra) -> None:
    assert kitchen("diff").code == 2
    assert kitchen("diff", "-f", "nowhere").code == 2
    broken = kitchen("diff", "-f", "-", stdin="apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n")
    assert broken.code == 2
    assert 'no matches for kind "Nonsense"' in broken.stderr


def test_diff_masks_the_values_of_secrets(kitchen: Kastra) -> None:
    manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: key, namespace: kitchen}\nstringData: {token: other}\n"
    changed = kitchen("diff", "-f", "-", stdin=manifest)
    assert changed.code == 1
    assert "-  token: '*** (before)'" in changed.lines
    assert "+  token: '*** (after)'" in changed.lines
    for text in ("canary-5f2a", "Y2FuYXJ5LTVmMmE", "b3RoZXI"):
        assert text not in changed.stdout


def test_equal_states_have_no_difference() -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "x", "resourceVersion": "1"},
        "data": {"a": "YQ=="},
    }
    other = {**obj, "metadata": {"name": "x", "resourceVersion": "2"}}
    assert list(difference(ObjectRef("Secret", "x", "default"), obj, other)) == []
