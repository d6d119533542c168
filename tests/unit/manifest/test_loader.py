"""Loading finds manifests wherever the user points, in apply order, and reports every problem with its place."""

import io
from pathlib import Path

from kastra.api.errors import NOT_SUPPORTED, REQUIRED, Cause
from kastra.manifest.loader import load
from kastra.manifest.problem import render, summary

AGENT = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata:
  name: {name}
spec:
  instructions: help
  model:
    name: gpt
    provider: opnai
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_folders_are_read_recursively_and_hidden_files_passed_over(tmp_path: Path) -> None:
    write(tmp_path, a_yaml=AGENT.format(name="a"), sub__b_yaml=AGENT.format(name="b"), notes="not yaml")
    (tmp_path / ".hidden.yaml").write_text("junk: [")
    loaded = load([tmp_path])
    assert [m.ref.name for m in loaded.manifests] == ["a", "b"]
    assert not loaded.problems


def test_globs_and_repeated_paths_load_each_file_once(tmp_path: Path) -> None:
    write(tmp_path, a_yaml=AGENT.format(name="a"), b_yaml=AGENT.format(name="b"))
    loaded = load([f"{tmp_path}/*.yaml", tmp_path, tmp_path / "a.yaml"])
    assert [m.ref.name for m in loaded.manifests] == ["a", "b"]


def test_standard_input_takes_yaml_and_json() -> None:
    yaml = load(["-"], stdin=io.BytesIO(AGENT.format(name="x").encode()))
    json = load(["-"], stdin=io.BytesIO(b'{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}'))
    assert yaml.manifests[0].ref.name == "x"
    assert json.manifests[0].object["kind"] == "Namespace"


def test_objects_come_in_the_order_in_which_they_can_be_applied(tmp_path: Path) -> None:
    kinds = ["Run", "System", "Greeting", "Agent", "Tool", "ModelProvider", "Secret", "CustomResourceDefinition",
             "Namespace", "Workflow"]  # fmt: skip
    text = "---\n".join(f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {kind.lower()}}}\n" for kind in kinds)
    loaded = load([write(tmp_path, all_yaml=text) / "all.yaml"])
    assert [m.object["kind"] for m in loaded.manifests] == [
        "Namespace", "CustomResourceDefinition", "Secret", "ModelProvider", "Tool", "Agent", "Workflow", "System",
        "Greeting", "Run",
    ]  # fmt: skip


def test_a_list_is_taken_apart_and_its_items_keep_their_places(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: team\n"
    loaded = load([write(tmp_path, list_yaml=text)])
    [manifest] = loaded.manifests
    assert str(manifest.problem(Cause(REQUIRED, "Required value", "metadata.name"))).split(" ")[0].endswith(":7:5")


def test_all_problems_of_all_files_are_reported(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_yaml="a: 1\na: 2\n",
        b_yaml="kind: Agent\nmetadata: {name: x}\n",
        c_yaml="apiVersion: v1\nkind: Namespace\nmetadata: {labels: {a: b}}\n",
        d_yaml="- just\n- a list\n",
        e_yaml="apiVersion: v1\nkind: Namespace\nmetadata: {name: 1}\n",
    )
    loaded = load([tmp_path, tmp_path / "missing.yaml", f"{tmp_path}/*.nothing"])
    said = [str(problem).replace(str(tmp_path), "") for problem in loaded.errors]
    assert said == [
        '/a.yaml:2:1 error a: key "a" stands twice (first on line 1)',
        "/b.yaml:1:1 error apiVersion: Required value",
        "/c.yaml:3:1 error metadata.name: Required value: name or generateName",
        "/d.yaml:1:1 error a manifest must be a mapping with apiVersion, kind and metadata",
        "/e.yaml:3:12 error metadata.name: Invalid value: 1: must be a string; quote it",
        "/missing.yaml: error no such file or folder",
        "/*.nothing: error pattern matches nothing",
    ]
    assert not loaded.manifests


def test_the_same_object_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    loaded = load([write(tmp_path, a_yaml=AGENT.format(name="x") + "---\n" + AGENT.format(name="x"))])
    [problem] = loaded.errors
    assert problem.message.startswith('Agent "x" is already declared at')
    assert problem.message.endswith("a.yaml:4")


def test_a_problem_shows_the_line_and_points_at_the_value(tmp_path: Path) -> None:
    [manifest] = load([write(tmp_path, agent_yaml=AGENT.format(name="x"))]).manifests
    cause = Cause(NOT_SUPPORTED, 'Unsupported value: "opnai": supported values: "openai"', "spec.model.provider")
    problem = manifest.problem(cause, suggestion='did you mean "openai"?')
    assert render(problem).replace(str(tmp_path), "").split("\n") == [
        '/agent.yaml:9:5 error spec.model.provider: Unsupported value: "opnai": supported values: "openai"',
        "   9 |     provider: opnai",
        '     |               ^^^^^ did you mean "openai"?',
    ]


def test_an_unknown_field_is_pointed_at_by_its_key(tmp_path: Path) -> None:
    [manifest] = load([write(tmp_path, agent_yaml=AGENT.format(name="x"))]).manifests
    problem = manifest.problem(Cause("", 'unknown field "spec.instructions"', "spec.instructions"))
    assert render(problem).endswith("   6 |   instructions: help\n     |   ^^^^^^^^^^^^")


def test_the_last_line_counts(tmp_path: Path) -> None:
    loaded = load([write(tmp_path, a_yaml="a: [", b_yaml="apiVersion: v1\nkind: Namespace\nmetadata: {name: yes}\n")])
    assert summary(loaded.problems, 1) == "2 errors, 1 warning, 1 object not applied"


def test_strict_yaml_makes_surprising_scalars_errors(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: on}\n"
    write(tmp_path, a_yaml=text)
    assert not load([tmp_path]).errors
    assert [problem.field for problem in load([tmp_path], strict_yaml=True).errors] == ["data.a"]


def test_an_old_definition_is_rewritten_and_its_errors_still_point_into_the_file(tmp_path: Path) -> None:
    text = """\
apiVersion: mastra.ai/v1alpha1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  additionalPrinterColumns: [{name: Size, type: string, jsonPath: .spec.size}]
  validation:
    openAPIV3Schema:
      type: object
      properties:
        spec:
          type: object
          properties:
"""
    [manifest] = load([write(tmp_path, crd_yaml=text)]).manifests
    assert manifest.object["apiVersion"] == "apiextensions.k8s.io/v1"
    spec = manifest.object["spec"]
    assert spec["names"] == {"singular": "widget", "listKind": "WidgetList", "kind": "Widget", "plural": "widgets"}
    [version] = spec["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1", True, True)
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][0]["name"] == "Size"
    schema = version["schema"]["openAPIV3Schema"]
    assert schema["properties"]["spec"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert "validation" not in spec
    place = manifest.problem(Cause("", "x", "spec.versions[0].schema.openAPIV3Schema.properties[spec].type"))
    assert place.mark.line == 13
