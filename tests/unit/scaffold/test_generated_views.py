"""A generated view reads exactly what its definition says, and its source is as people would have written it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from kastra.manifest.decode import decode
from kastra.runtime.view import Fields, View
from kastra.scaffold.shapes import RESERVED, python_name, shape_of
from tests.contract.views import definition, lost, mismatches, spec_schema, specs

from .definitions import EVERYTHING, loaded, source_of, view_of

BUILT_IN = ["agents", "modelproviders", "models", "networks", "runs", "systems", "tools", "workflows"]


@pytest.fixture(scope="module")
def widget() -> dict[str, Any]:
    [document] = decode(EVERYTHING.encode())
    found: dict[str, Any] = document.value
    return found


def built_in(plural: str) -> dict[str, Any]:
    """A built-in definition under another group: in this process the views of the built-in kinds are those of Kastra."""
    found = definition(plural)
    return {**found, "spec": {**found["spec"], "group": "stress.example.com"}}


def read(widget: dict[str, Any], **spec: Any) -> Any:
    body = {"metadata": {"name": "w"}, "spec": {"name": "n", "class": "c", "shape": "a-fifth-one", **spec}}
    return view_of(widget).of(body).spec


@pytest.mark.parametrize("plural", BUILT_IN)
def test_a_view_has_exactly_the_fields_of_its_definition(plural: str) -> None:
    view = view_of(built_in(plural))
    assert list(mismatches(spec_schema(plural), view.model_fields["spec"].annotation, "spec")) == []
    assert (view.api_group, view.api_version) == ("stress.example.com", "v1")


@pytest.mark.parametrize("plural", BUILT_IN)
@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_whatever_a_definition_accepts_its_view_reads_without_losing_a_value(plural: str, data: st.DataObject) -> None:
    schema = spec_schema(plural)
    spec = data.draw(specs(schema, frozenset({"steps"})))
    if plural == "workflows":
        spec["steps"] = [{"id": "a", "agent": "x"}]
    view = _views(plural).of({"metadata": {"name": "x"}, "spec": spec})
    assert list(lost(schema, spec, view.spec.plain())) == []


def _views(plural: str, cache: dict[str, Any] = {}) -> Any:  # noqa: B006 - made once per kind
    if plural not in cache:
        cache[plural] = view_of(built_in(plural))
    return cache[plural]


@pytest.mark.parametrize("plural", BUILT_IN)
def test_the_status_that_nobody_has_written_yet_is_read(plural: str) -> None:
    view = view_of(built_in(plural))
    status = view.model_fields["status"].annotation
    assert not [name for name, field in status.model_fields.items() if field.is_required()]


def test_the_same_definition_gives_the_same_text(widget: dict[str, Any]) -> None:
    assert source_of(widget) == source_of(widget)


def test_the_source_is_formatted_and_has_nothing_for_ruff_to_say(tmp_path: Path, widget: dict[str, Any]) -> None:
    (tmp_path / "ruff.toml").write_text(
        'line-length = 120\n[lint]\nselect = ["B","D","E","F","I","RUF","UP","W"]\nignore = ["D203","D213","D400","D415","E501","RUF001","RUF002","D205"]\n'
    )
    (tmp_path / "widget.py").write_text(source_of(widget))
    for plural in BUILT_IN:
        (tmp_path / f"{plural}.py").write_text(source_of(built_in(plural)))
    for command in (["format", "--diff"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", str(tmp_path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_the_stored_version_is_the_one_that_is_read(widget: dict[str, Any]) -> None:
    assert view_of(widget).api_version == "v1"


def test_names_that_python_or_pydantic_has_get_an_underscore(widget: dict[str, Any]) -> None:
    spec = read(widget, schema={"type": "object"}, list=[1])
    assert (spec.class_, spec.schema_, spec.list_) == ("c", {"type": "object"}, [1])


def test_keys_that_are_no_names_can_still_be_read(widget: dict[str, Any]) -> None:
    spec = read(widget, **{"foo-bar": "a", "fooBar": "b", "$ref": "c", "2nd": "d", "maxCostUSD": 1.5})
    assert (spec.foo_bar, spec.foo_bar_2, spec.ref, spec.n2nd, spec.max_cost_usd) == ("a", "b", "c", "d", 1.5)


def test_defaults_are_those_of_the_definition(widget: dict[str, Any]) -> None:
    spec = read(widget)
    assert (spec.size, spec.tags, spec.empty, spec.weights) == ("M", ["one"], [], {})
    assert (spec.limits.cpu, spec.limits.memory) == (2, "1Gi")
    assert [(item.key, item.value) for item in spec.many][1] == ("another rather long key", 'x "y"')
    assert (spec.port, spec.maybe, spec.level, spec.template) == (None, None, None, {})


def test_a_value_outside_of_an_enumeration_is_refused(widget: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="size"):
        read(widget, size="XL")


def test_int_or_string_keeps_what_was_written(widget: dict[str, Any]) -> None:
    assert (read(widget, port=80).port, read(widget, port="http").port) == (80, "http")


def test_an_open_object_keeps_what_its_schema_does_not_name(widget: dict[str, Any]) -> None:
    assert read(widget, open={"known": True, "other": 1}).open.plain() == {"known": True, "other": 1}


def test_lists_and_maps_hold_classes(widget: dict[str, Any]) -> None:
    spec = read(widget, ports=[{"port": 1}], matrix=[[{"x": 2}]], byName={"a": {"id": "i"}})
    assert (spec.ports[0].protocol, spec.matrix[0][0].x, spec.by_name["a"].id) == ("TCP", 2, "i")


def test_conditions_are_read_by_the_class_that_every_view_has(widget: dict[str, Any]) -> None:
    view = view_of(widget).of(
        {
            "spec": {"name": "n", "class": "c", "shape": "a-fifth-one"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
    )
    assert view.status.conditions[0].is_true
    assert view.status.ready is None, "nothing is required of a status"


def test_descriptions_become_docstrings(widget: dict[str, Any]) -> None:
    module = loaded(source_of(widget))
    assert module.Widget.__doc__ == "A \"widget\" with a \\ backslash and '''quotes'''"
    assert '"""Where it listens. One per port and protocol."""' in source_of(widget)


def test_a_kind_may_be_called_like_a_class_that_views_use(widget: dict[str, Any]) -> None:
    names = {"kind": "Field", "plural": "fields", "singular": "field"}
    shape = shape_of({**widget, "spec": {**widget["spec"], "names": names}})
    assert (shape.kind, shape.view.name) == ("Field", "FieldView")


def test_every_public_name_of_the_base_classes_is_reserved() -> None:
    known = {
        name for base in (View, Fields, BaseModel) for name in dir(base) if not name.startswith("_") and name.islower()
    }
    assert known - RESERVED - {"metadata"} == set()
    assert python_name("copy") == "copy_"


def test_a_definition_without_a_schema_is_refused_by_name(widget: dict[str, Any]) -> None:
    versions = [{"name": "v1", "storage": True, "served": True}]
    with pytest.raises(ValueError, match=r"widgets\.example\.com: version v1 has no openAPIV3Schema"):
        shape_of({**widget, "spec": {**widget["spec"], "versions": versions}})
