"""Every output format says the same of an object, in its own form."""

import json
from pathlib import Path

import pytest

from kastra.api.object import Object
from kastra.api.scheme import Scheme
from kastra.cli.output import OutputFormat, document_writer, parse_format, presented, sort_objects
from kastra.cli.tables import CustomColumns, labels_text


def agent(name: str, **spec: object) -> Object:
    return Object.of(
        {
            "spec": spec,
            "kind": "Agent",
            "metadata": {"name": name, "namespace": "kitchen", "managedFields": [{}], "labels": {"team": "a"}},
            "apiVersion": "mastra.ai/v1",
        }
    )


def test_objects_are_shown_in_the_order_people_read_them_without_managed_fields() -> None:
    shown = presented(agent("x", b=1, a=2).data)
    assert list(shown) == ["apiVersion", "kind", "metadata", "spec"]
    assert list(shown["metadata"]) == ["labels", "name", "namespace"]
    assert list(shown["spec"]) == ["b", "a"]
    assert "managedFields" in presented(agent("x").data, managed_fields=True)["metadata"]


def test_one_object_by_name_stands_alone_and_several_are_a_list() -> None:
    write = document_writer(OutputFormat("json"))
    assert json.loads(write([agent("x")], True))["kind"] == "Agent"
    listed = json.loads(write([agent("x")], False))
    assert (listed["kind"], listed["apiVersion"]) == ("List", "v1")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["x"]


def test_names_carry_kind_and_group() -> None:
    assert document_writer(OutputFormat("name"))([agent("x")], True) == "agent.mastra.ai/x\n"


def test_jsonpath_takes_the_relaxed_forms_kubectl_takes() -> None:
    for template in ("{.metadata.name}", ".metadata.name", "metadata.name"):
        assert document_writer(OutputFormat("jsonpath", template))([agent("x")], True) == "x"
    names = document_writer(OutputFormat("jsonpath", "{.items[*].metadata.name}"))
    assert names([agent("x"), agent("y")], False) == "x y"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("xml", 'unable to match a printer suitable for the output format "xml"'),
        ("jsonpath", "-o jsonpath needs a template"),
        ("yaml=x", "-o yaml takes no argument"),
    ],
)
def test_an_unknown_or_incomplete_format_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_format(text)


def test_custom_columns_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "columns"
    file.write_text("NAME            TEAM\nmetadata.name   metadata.labels.team\n")
    assert parse_format(f"custom-columns-file={file}").argument == "NAME:metadata.name,TEAM:metadata.labels.team"


def test_custom_columns_print_none_for_what_is_absent_and_join_several_values(scheme: Scheme) -> None:
    printer = CustomColumns("NAME:.metadata.name,TOOLS:.spec.tools[*],NO:.spec.absent")
    lines = printer.lines(scheme.find("agents"), [agent("x", tools=["a", "b"]), agent("y")])
    assert lines == ["NAME   TOOLS    NO", "x      a,b      <none>", "y      <none>   <none>"]


def test_a_comma_inside_of_brackets_belongs_to_the_path(scheme: Scheme) -> None:
    printer = CustomColumns("TOOLS:.spec.tools[0,1]", headers=False)
    assert printer.lines(scheme.find("agents"), [agent("x", tools=["a", "b"])]) == ["a,b"]


def test_a_column_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="expected <header>:<json-path-expr>"):
        CustomColumns("NAME")


def test_sorting_puts_absent_values_first_and_numbers_in_their_order() -> None:
    objects = [agent("ten", n=10), agent("nine", n=9), agent("none"), agent("text", n="a")]
    assert [obj.name for obj in sort_objects(objects, ".spec.n")] == ["none", "nine", "ten", "text"]
    assert [obj.name for obj in sort_objects(objects, "{.metadata.name}")] == ["nine", "none", "ten", "text"]


def test_labels_are_sorted_and_none_is_said() -> None:
    assert labels_text({"b": "2", "a": "1"}) == "a=1,b=2"
    assert labels_text({}) == "<none>"
