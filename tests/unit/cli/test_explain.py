"""`kastra explain` documents kinds and fields in kubectl's layout."""

from typing import Any

import pytest

from kastra.api.scheme import Resource, Scheme
from kastra.cli.explain import explanation, type_name

Kastra = Any


def test_a_kind_shows_its_description_and_fields(kitchen: Kastra) -> None:
    lines = kitchen("explain", "agent").lines
    assert lines[:4] == ["GROUP:      mastra.ai", "KIND:       Agent", "VERSION:    v1", ""]
    assert lines[4] == "DESCRIPTION:"
    fields = [line.split("\t")[0].strip() for line in lines if "\t" in line]
    assert fields == ["apiVersion", "kind", "metadata", "spec", "status"]


def test_a_field_shows_its_type_and_what_is_below_it(kitchen: Kastra) -> None:
    lines = kitchen("explain", "wf.spec").lines
    assert "FIELD: spec <Object>" in lines
    assert any(line.startswith("  steps\t<[]") for line in lines)


def test_recursion_shows_the_tree_without_descriptions(kitchen: Kastra) -> None:
    lines = kitchen("explain", "tools.mastra.ai.spec", "--recursive").lines
    http = lines.index("  http\t<Object>")
    assert any(line.startswith("    url\t<string>") for line in lines[http:])


def test_metadata_is_documented_for_every_kind(kitchen: Kastra) -> None:
    assert "FIELD: labels <map[string]string>" in kitchen("explain", "cm.metadata.labels").lines


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("agent.spec.instructoins", 'field "spec.instructoins" does not exist in Agent; did you mean "instructions"?'),
        ("agnt", 'the server doesn\'t have a resource type "agnt"; did you mean "agent"?'),
        (".", "say what to explain"),
    ],
)
def test_what_does_not_exist_is_refused_with_a_suggestion(kitchen: Kastra, field: str, message: str) -> None:
    found = kitchen("explain", field)
    assert found.code == 1
    assert message in found.stderr


def test_another_version_can_be_asked_for(kitchen: Kastra) -> None:
    assert kitchen("explain", "agent", "--api-version", "mastra.ai/v1").code == 0
    assert "couldn't find resource" in kitchen("explain", "agent", "--api-version", "mastra.ai/v9").stderr


SCHEMA = {
    "type": "object",
    "description": "A lamp.",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["color"],
            "properties": {
                "color": {
                    "type": "string",
                    "enum": ["red", "green"],
                    "default": "red",
                    "description": "What it shows.",
                },
                "bulbs": {"type": "array", "items": {"type": "object", "properties": {"watts": {"type": "integer"}}}},
            },
        }
    },
}
LAMP = Resource("example.com", "v1", "Lamp", "lamps", "lamp", "LampList", namespaced=True, schema=SCHEMA)


def test_required_fields_enums_and_defaults_are_marked() -> None:
    assert explanation(LAMP, ["spec"])[-8:] == [
        "  bulbs\t<[]Object>",
        "    <no description>",
        "",
        "  color\t<string> -required-",
        "  enum: red, green",
        "  default: red",
        "    What it shows.",
        "",
    ]


def test_a_path_goes_through_lists() -> None:
    assert "FIELD: watts <integer>" in explanation(LAMP, ["spec", "bulbs", "watts"])
    assert explanation(LAMP, ["spec"], recursive=True)[-3:] == [
        "  bulbs\t<[]Object>",
        "    watts\t<integer>",
        "  color\t<string> -required-",
    ]


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ({"type": "boolean"}, "boolean"),
        ({"x-kubernetes-int-or-string": True}, "IntOrString"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "map[string]string"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, "[][]number"),
        ({"x-kubernetes-preserve-unknown-fields": True}, "any"),
    ],
)
def test_types_are_named_as_kubectl_names_them(node: dict[str, Any], name: str) -> None:
    assert type_name(node) == name


def test_every_built_in_field_can_be_explained(scheme: Scheme) -> None:
    for resource in scheme:
        assert explanation(resource, [], recursive=True)
