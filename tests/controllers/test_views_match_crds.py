"""The typed view of every kind and its CustomResourceDefinition say the same."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kastra.runtime.discovery import discover
from kastra.runtime.view import View
from tests.contract.views import definition, definitions, lost, mismatches, spec_schema, specs

DISCOVERED = {view.api_kind: view for view in discover(packages=["kastra.controllers"]).views}
VIEWS: dict[str, type[Any]] = {
    plural: DISCOVERED[kind]
    for plural, kind in sorted((plural, definition(plural)["spec"]["names"]["kind"]) for plural in definitions())
}
RENAMED = {
    "agents": frozenset({"name", "systemPrompt"}),
    "networks": frozenset({"router"}),
    "workflows": frozenset({"steps", "inputSchema", "outputSchema", "retries", "retryDelayMs"}),
}
"""Fields that the normal form calls or shapes otherwise, tested with the short shapes."""


@pytest.mark.parametrize("plural", VIEWS)
def test_a_view_reads_exactly_the_fields_of_its_definition(plural: str) -> None:
    model = VIEWS[plural].model_fields["spec"].annotation
    assert list(mismatches(spec_schema(plural), model, "spec")) == []


@pytest.mark.parametrize("plural", VIEWS)
def test_a_view_declares_the_kind_of_its_definition(plural: str) -> None:
    spec, view = definition(plural)["spec"], VIEWS[plural]
    assert (view.api_group, view.api_kind, view.api_version) == (
        spec["group"],
        spec["names"]["kind"],
        spec["versions"][0]["name"],
    )


@pytest.mark.parametrize("plural", VIEWS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(data=st.data())
def test_whatever_a_definition_accepts_its_view_reads_without_losing_a_value(plural: str, data: st.DataObject) -> None:
    schema = spec_schema(plural)
    spec = data.draw(specs(schema, RENAMED.get(plural, frozenset())))
    if plural == "workflows":
        spec["steps"] = [{"id": "a", "agent": "x"}]
    view: View = VIEWS[plural].of({"metadata": {"name": "x"}, "spec": spec})
    plain = view.spec.plain()  # type: ignore[attr-defined]
    if plural == "networks":
        plain["agents"] = plain["workflows"] = plain["tools"] = plain["networks"] = plain["members"]
        spec = {key: value for key, value in spec.items() if key not in ("agents", "termination")}
    spec.pop("steps", None)
    assert list(lost(schema, spec, plain)) == []


@pytest.mark.parametrize("plural", sorted(VIEWS.keys() - {"networks", "workflows"}))
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(data=st.data())
def test_the_normal_form_of_a_normal_form_is_itself(plural: str, data: st.DataObject) -> None:
    spec = data.draw(specs(spec_schema(plural)).filter(lambda s: not _twice_named(s)))
    once = VIEWS[plural].of({"spec": spec}).spec.plain()
    assert VIEWS[plural].of({"spec": once}).spec.plain() == once


def _twice_named(spec: dict[str, Any]) -> bool:
    return {"name", "displayName"} <= spec.keys() or {"systemPrompt", "instructions"} <= spec.keys()
