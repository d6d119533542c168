"""`kastra apply` says what became of each object, where a file is wrong, and whether everything is Ready."""

import json
from pathlib import Path
from typing import Any

import pytest

from kastra.cli.apply_watch import snapshot, watched

Kastra = Any

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: '%s'}\n"


def test_objects_are_created_in_order_and_their_readiness_is_shown(empty: Kastra) -> None:
    applied = empty("apply", "-f", "kitchen.yaml")
    assert applied.code == 0, applied.stderr
    results, table = applied.stdout.split("\n\n", 1)
    assert results.splitlines()[0] == "namespace/kitchen created"
    assert "agent.mastra.ai/cook created" in results
    rows = {line.split()[2]: line.split() for line in table.split("\n\n")[0].splitlines()}
    assert rows["NAME"] == ["NAMESPACE", "KIND", "NAME", "READY", "REASON", "AGE"]
    assert rows["cook"][:4] == ["kitchen", "Agent", "cook", "True"]
    assert rows["dinner"][:4] == ["kitchen", "Workflow", "dinner", "True"]
    assert rows["waiter"][3:5] == ["False", "NotFound"]
    assert 'Agent waiter: spec.tools[0]: no Tool "menu"' in table


def test_applying_again_changes_nothing_and_an_edit_configures(changeable: Kastra) -> None:
    again = changeable("apply", "-f", "kitchen.yaml")
    assert "workflow.mastra.ai/dinner unchanged" in again.stdout
    assert " created" not in again.stdout
    file = changeable.folder / "kitchen.yaml"
    file.write_text(file.read_text().replace("You cook.", "You cook well."))
    assert "agent.mastra.ai/cook configured" in changeable("apply", "-f", "kitchen.yaml").stdout


BROKEN = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: broken}
spec:
  instructions: hi
  maxSteps: many
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fine}
"""


def test_a_broken_file_is_reported_with_its_place_and_nothing_is_sent(empty: Kastra) -> None:
    (empty.folder / "broken.yaml").write_text(BROKEN)
    applied = empty("apply", "-f", "broken.yaml")
    assert applied.code == 1
    assert applied.stdout == ""
    assert applied.stderr.startswith("broken.yaml:6:3 error spec.maxSteps: ")
    assert "   6 |   maxSteps: many\n     |             ^^^^" in applied.stderr
    assert applied.stderr.endswith("1 error, 2 objects not applied\n")
    assert empty("get", "cm", "fine").code == 1


def test_keep_going_sends_the_valid_rest_and_still_fails(empty: Kastra) -> None:
    (empty.folder / "broken.yaml").write_text(BROKEN)
    applied = empty("apply", "-f", "broken.yaml", "--keep-going")
    assert applied.code == 1
    assert "configmap/fine created" in applied.stdout
    assert "1 error, 1 object not applied" in applied.stderr


@pytest.mark.parametrize(("mode", "note"), [("client", "(dry run)"), ("server", "(server dry run)")])
def test_a_dry_run_says_what_would_happen_and_stores_nothing(empty: Kastra, mode: str, note: str) -> None:
    (empty.folder / "one.yaml").write_text(CONFIG % ("one", "1"))
    applied = empty("apply", "-f", "one.yaml", f"--dry-run={mode}")
    assert (applied.code, applied.stdout) == (0, f"configmap/one created {note}\n")
    assert empty("get", "cm", "one").code == 1


def test_a_client_dry_run_needs_no_store_and_makes_none(empty: Kastra) -> None:
    assert empty("apply", "-f", "kitchen.yaml", "--dry-run=client").code == 0
    assert not (empty.folder / ".kastra").exists()


def test_standard_input_and_names_or_json_as_output(empty: Kastra) -> None:
    applied = empty("apply", "-f", "-", "-o", "name", stdin=CONFIG % ("one", "1"))
    assert applied.stdout == "configmap/one\n"
    applied = empty("apply", "-f", "-", "-o", "json", stdin=CONFIG % ("one", "2"))
    assert json.loads(applied.stdout)["data"] == {"a": "2"}


def test_pruning_deletes_what_the_set_no_longer_declares(empty: Kastra) -> None:
    folder = empty.folder / "set"
    folder.mkdir()
    (folder / "a.yaml").write_text(CONFIG % ("a", "1"))
    (folder / "b.yaml").write_text(CONFIG % ("b", "1"))
    assert empty("apply", "-f", "set", "--prune", "--applyset", "shop").code == 0
    (folder / "b.yaml").unlink()
    applied = empty("apply", "-f", "set", "--prune", "--applyset", "shop")
    assert "configmap/b pruned" in applied.stdout
    assert "configmap/a unchanged" in applied.stdout


RUN = """\
apiVersion: mastra.ai/v1
kind: Run
metadata: {name: now, namespace: kitchen}
spec:
  target: {kind: Workflow, name: dinner}
  input: {ingredients: [leek]}
"""


def test_runs_are_held_back_unless_asked_for(changeable: Kastra) -> None:
    (changeable.folder / "run.yaml").write_text(RUN)
    assert changeable("apply", "-f", "run.yaml").code == 0
    held = json.loads(changeable("get", "run", "now", "-n", "kitchen", "-o", "json").stdout)
    assert held["spec"]["desiredState"] == "Suspended"


def test_with_run_they_are_executed_and_waited_for(changeable: Kastra) -> None:
    (changeable.folder / "run.yaml").write_text(RUN)
    applied = changeable("apply", "-f", "run.yaml", "--run")
    assert applied.code == 0, applied.stderr
    phase = changeable("get", "run/now", "-n", "kitchen", "-o", "jsonpath={.status.phase}: {.status.output}")
    assert phase.stdout == "Succeeded: Try leek omelette."


def test_waiting_fails_when_something_does_not_become_ready(changeable: Kastra) -> None:
    applied = changeable("apply", "-f", "kitchen.yaml", "--wait", "--timeout", "200ms")
    assert applied.code == 1
    assert "error: not everything is ready" in applied.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to apply"),
        (["-f", "kitchen.yaml", "--prune"], "--prune and --applyset NAME go together"),
        (["-f", "-", "--watch"], "--watch can't watch standard input"),
        (["-f", "kitchen.yaml", "--timeout", "soon"], '"soon" is no duration'),
    ],
)
def test_wrong_use_is_refused_before_anything_is_opened(empty: Kastra, arguments: list[str], message: str) -> None:
    applied = empty("apply", *arguments)
    assert applied.code == 2
    assert message in applied.stderr


def test_a_path_that_is_not_there_is_an_error(empty: Kastra) -> None:
    applied = empty("apply", "-f", "nowhere")
    assert applied.code == 1
    assert "nowhere: error no such file or folder" in applied.stderr


def test_without_recursion_only_the_folder_itself_is_read(empty: Kastra) -> None:
    (empty.folder / "deep" / "er").mkdir(parents=True)
    (empty.folder / "deep" / "a.yaml").write_text(CONFIG % ("a", "1"))
    (empty.folder / "deep" / "er" / "b.yaml").write_text(CONFIG % ("b", "1"))
    flat = empty("apply", "-f", "deep", "--no-recursive", "--dry-run=client")
    assert flat.stdout == "configmap/a created (dry run)\n"
    assert "configmap/b" in empty("apply", "-f", "deep", "-R", "--dry-run=client").stdout


def test_files_are_watched_through_their_folders(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    assert watched([str(tmp_path / "a.yaml"), str(tmp_path / "*.yaml")]) == [tmp_path.resolve()]


def test_a_snapshot_tells_which_manifests_changed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a")
    (tmp_path / "notes.txt").write_text("a")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.json").write_text("{}")
    before = snapshot([str(tmp_path)])
    assert {path.name for path in before} == {"a.yaml", "b.json"}
    (tmp_path / "a.yaml").write_text("longer")
    (tmp_path / "sub" / "b.json").unlink()
    after = snapshot([str(tmp_path)])
    assert {path.name for path, _ in before.items() ^ after.items()} == {"a.yaml", "b.json"}
    assert {path.name for path in snapshot([str(tmp_path)], recursive=False)} == {"a.yaml"}
    assert {path.name for path in snapshot([str(tmp_path / "*.txt")])} == {"notes.txt"}
    assert snapshot([str(tmp_path / "nothing")]) == {}


MISMATCHED = """\
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: order}
spec:
  steps:
  - id: price
    tool: price
    with:
      isbn: 7
---
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: price}
spec:
  inputSchema: {type: object, properties: {isbn: {type: string}}}
  python: {inline: "def price(isbn: str) -> int:\\n    return 1"}
"""


def test_what_only_two_objects_together_show_is_reported_with_its_place(empty: Kastra) -> None:
    (empty.folder / "order.yaml").write_text(MISMATCHED)
    applied = empty("apply", "-f", "order.yaml")
    assert applied.code == 0, "as with everything that may come right by itself, readiness says so"
    assert (
        "order.yaml:9:7 warning spec.steps[0].with.isbn: Invalid value: Tool price doesn't take that" in applied.stderr
    )
    assert "   9 |       isbn: 7\n     |             ^" in applied.stderr
    assert "SchemaMismatch" in applied.stdout


def test_the_place_of_what_two_objects_show_is_that_of_the_form_that_was_written(empty: Kastra) -> None:
    longer = MISMATCHED.replace("    with:\n      isbn: 7", "    input:\n      with: {isbn: 7}")
    (empty.folder / "order.yaml").write_text(longer)
    applied = empty("apply", "-f", "order.yaml")
    assert "order.yaml:9:14 warning spec.steps[0].input.with.isbn: Invalid value: Tool price" in applied.stderr
