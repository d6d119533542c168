"""`kastra generate` keeps views what their definitions say, `--check` finds every view that isn't, and nothing of people's
own is ever changed.
"""

from pathlib import Path

import pytest

from kastra.runtime.discovery import discover
from kastra.scaffold.backcheck import findings
from kastra.testing import ControlPlane

from .conftest import Command
from .definitions import EVERYTHING

GAUGE = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gauges.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Gauge, plural: gauges, singular: gauge}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [limit]
            properties:
              limit: {type: integer}
              unit: {type: string, enum: [C, F]}
              port: {x-kubernetes-int-or-string: true}
              note: {type: string, nullable: true}
              alarms:
                type: array
                items: {type: object, properties: {at: {type: number}}}
              labels: {type: object, additionalProperties: {type: string}}
              free: {x-kubernetes-preserve-unknown-fields: true}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {value: {type: number}}}
"""

HEAD = """from datetime import datetime
from typing import Annotated, Any, Literal

from kastra import Fields, View
from pydantic import BeforeValidator, Field


class Alarm(Fields):
    at: float | None = None


class GaugeSpec(Fields):
"""
TAIL = """

class Gauge(View, kind="Gauge", group="example.com"):
    spec: GaugeSpec
"""


@pytest.fixture
def gauges(project: Path) -> Path:
    (project / "crds").mkdir()
    (project / "crds" / "gauges.yaml").write_text(GAUGE)
    return project


def hand_written(project: Path, *fields: str) -> None:
    """A controller module whose spec has these fields, from line 13 on."""
    (project / "controllers").mkdir(exist_ok=True)
    (project / "controllers" / "gauge.py").write_text(HEAD + "".join(f"    {line}\n" for line in fields) + TAIL)


def test_a_view_is_written_found_and_then_up_to_date(gauges: Path, kastra: Command) -> None:
    code, out, err = kastra("generate")
    assert (code, out) == (0, "controllers/views/__init__.py created\ncontrollers/views/gauge.py created\n"), err
    [view] = discover([gauges / "controllers"], packages=[]).views
    assert (view.api_kind, view.api_group) == ("Gauge", "example.com")
    assert kastra("generate")[1] == "1 view is up to date\n"
    assert kastra("generate", "--check")[:2] == (0, "the views agree with the definitions\n")


def test_check_finds_what_is_missing_changed_and_left_over_and_generate_mends_it(gauges: Path, kastra: Command) -> None:
    code, _, err = kastra("generate", "--check")
    assert (code, "controllers/views/gauge.py: is missing; run kastra generate" in err) == (1, True)
    assert not (gauges / "controllers").exists(), "it only looks"
    kastra("generate")
    (gauges / "crds" / "gauges.yaml").write_text(GAUGE.replace("limit: {type: integer}", "limit: {type: number}"))
    code, _, err = kastra("generate", "--check")
    assert (code, "controllers/views/gauge.py: is not what the definition says" in err) == (1, True)
    (gauges / "crds" / "widgets.yaml").write_text(EVERYTHING)
    assert kastra("generate")[1] == "controllers/views/gauge.py updated\ncontrollers/views/widget.py created\n"
    (gauges / "crds" / "gauges.yaml").unlink()
    assert "its definition is gone" in kastra("generate", "--check")[2]
    assert (
        kastra("generate")[1]
        == "controllers/views/gauge.py removed: its definition is gone, or its view is written by hand\n"
    )
    assert kastra("generate", "--check")[0] == 0


def test_a_file_written_by_hand_is_never_overwritten(gauges: Path, kastra: Command) -> None:
    (gauges / "controllers" / "views").mkdir(parents=True)
    (gauges / "controllers" / "views" / "gauge.py").write_text("MINE = 1\n")
    code, _, err = kastra("generate")
    assert (code, "controllers/views/gauge.py: was not written by kastra generate" in err) == (1, True)
    assert (gauges / "controllers" / "views" / "gauge.py").read_text() == "MINE = 1\n"


def test_a_kind_whose_view_is_written_by_hand_gets_none(gauges: Path, kastra: Command) -> None:
    kastra("generate")
    hand_written(gauges, "limit: int")
    code, out, _ = kastra("generate")
    assert code == 0
    assert out == (
        "controllers/views/gauge.py removed: its definition is gone, or its view is written by hand\n"
        "Gauge.example.com has a view of its own in controllers/gauge.py:16; none is generated\n"
    )
    assert kastra("generate", "--check")[0] == 0


def test_controllers_that_do_not_load_are_a_finding_too(gauges: Path, kastra: Command) -> None:
    kastra("generate")
    (gauges / "controllers" / "gauge.py").write_text("from .views.guage import Gauge\n")
    code, _, err = kastra("generate", "--check")
    assert (code, "gauge.py:1: ModuleNotFoundError" in err) == (1, True)


def test_only_the_views_of_the_given_files_are_made(gauges: Path, kastra: Command) -> None:
    (gauges / "crds" / "widgets.yaml").write_text(EVERYTHING)
    kastra("generate", "crds/widgets.yaml")
    assert sorted(path.name for path in (gauges / "controllers" / "views").glob("*.py")) == ["__init__.py", "widget.py"]
    code, _, err = kastra("generate", "kastra.toml")
    assert code == 1
    assert "kastra.toml" in err


def test_kinds_of_one_name_get_modules_with_their_groups(gauges: Path, kastra: Command) -> None:
    (gauges / "crds" / "other.yaml").write_text(GAUGE.replace("example.com", "example.org"))
    kastra("generate")
    names = sorted(path.name for path in (gauges / "controllers" / "views").glob("g*.py"))
    assert names == ["gauge_example_com.py", "gauge_example_org.py"]


def test_a_definition_that_is_none_is_named(project: Path, kastra: Command) -> None:
    (project / "crds").mkdir()
    (project / "crds" / "x.yaml").write_text(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x}\nspec: {versions: []}\n"
    )
    code, _, err = kastra("generate")
    assert (code, "crds/x.yaml" in err, "kastra validate" in err) == (1, True, True)


def test_a_project_without_definitions_has_nothing_to_do(project: Path, kastra: Command) -> None:
    assert kastra("generate")[:2] == (0, "0 views are up to date\n")
    assert kastra("generate", "--check")[0] == 0


@pytest.mark.parametrize(
    ("field", "path", "says"),
    [
        ("limits: int = 0", "spec.limits", 'crds/gauges.yaml has no such field; did you mean "limit"?'),
        ("limit: str", "spec.limit", "is of type integer in crds/gauges.yaml, and str in the view"),
        ("unit: str", "spec.unit", "is required in the view and optional in crds/gauges.yaml"),
        ('unit: Literal["C"] = "C"', "spec.unit", "may be 'F' by crds/gauges.yaml, which the view doesn't read"),
        ("port: int = 0", "spec.port", "is of type string in crds/gauges.yaml, and int in the view"),
        ('note: str = ""', "spec.note", "may be null by crds/gauges.yaml"),
        ("alarms: dict[str, Alarm] = Field(default_factory=dict)", "spec.alarms", "is of type array"),
        ("alarms: list[int] = Field(default_factory=list)", "spec.alarms[]", "is of type object"),
        ("labels: dict[str, int] = Field(default_factory=dict)", "spec.labels.*", "is of type string"),
        ('other: str = Field(default="", alias="lable")', "spec.lable", "has no such field"),
    ],
    ids=lambda value: value.partition(":")[0] if ": " in value else "",
)
def test_a_field_that_differs_is_found_at_its_line(
    gauges: Path, kastra: Command, field: str, path: str, says: str
) -> None:
    hand_written(gauges, "free: Any = None", field)
    name = field.partition(":")[0]
    code, _, err = kastra("generate", "--check")
    assert code == 1
    assert f"controllers/gauge.py:14: GaugeSpec.{name}: {path}: " in err
    assert says in err


def test_a_view_that_agrees_in_its_own_words_is_fine(gauges: Path, kastra: Command) -> None:
    hand_written(
        gauges,
        "limit: float",
        'unit: Literal["C", "F", "K"] = "C"',
        "port: int | str = 0",
        "note: str | None = None",
        "alarms: list[Alarm] = Field(default_factory=list)",
        "labels: dict[str, Any] = Field(default_factory=dict)",
        "free: datetime | None = None",
    )
    (gauges / "crds" / "gauges.yaml").rename(gauges / "gauges.yaml")
    assert findings(gauges, ["controllers"], [str(gauges / "gauges.yaml")]) == []


def test_a_value_that_a_validator_reads_may_have_any_shape(gauges: Path) -> None:
    hand_written(gauges, "limit: Annotated[list[int], BeforeValidator(lambda value: [value])]")
    assert findings(gauges, ["controllers"]) == []


def test_a_field_of_a_nested_class_is_named_with_its_whole_path(gauges: Path) -> None:
    hand_written(gauges, "limit: int", "alarms: list[Alarm] = Field(default_factory=list)")
    file = gauges / "controllers" / "gauge.py"
    file.write_text(file.read_text().replace("at: float | None = None", "att: float | None = None"))
    assert [(one.line, one.name, one.path) for one in findings(gauges, ["controllers"])] == [
        (9, "Alarm.att", "spec.alarms[].att")
    ]


async def test_methods_stand_in_a_class_of_ones_own_below_the_generated_one(gauges: Path, kastra: Command) -> None:
    kastra("generate")
    (gauges / "controllers" / "gauge.py").write_text("""
from kastra import Context, Result, controller
from kastra.api.types import Reference

from .views import gauge


class Gauge(gauge.Gauge):
    def references(self) -> list[Reference]:
        return [Reference("spec.labels.agent", "Agent", self.spec.labels["agent"])]


@controller(Gauge, watches=["Agent"])
async def reconcile(gauge: Gauge, ctx: Context) -> Result:
    found = await ctx.resolve_all(gauge.references())
    return ctx.ready() if found.ok else ctx.not_ready(found.reason, found.message)
""")
    assert kastra("generate", "--check")[0] == 0
    async with ControlPlane(gauges) as env:
        await env.apply("crds")
        gauge = {"apiVersion": "example.com/v1", "kind": "Gauge", "metadata": {"name": "g"}}
        await env.apply({**gauge, "spec": {"limit": 1, "labels": {"agent": "helper"}}})
        await env.settle()
        assert not (await env.get("Gauge", "g")).is_condition_true("Ready")
        agent = {"apiVersion": "mastra.ai/v1", "kind": "Agent", "metadata": {"name": "helper"}}
        await env.apply({**agent, "spec": {"instructions": "Help."}})
        await env.settle()
        assert (await env.get("Gauge", "g")).is_condition_true("Ready")


def test_a_controller_can_check_what_its_generated_view_reads(gauges: Path, kastra: Command) -> None:
    kastra("generate")
    (gauges / "controllers" / "gauge.py").write_text("""
from kastra.api.errors import INVALID, Cause

from .views.gauge import Gauge


def validate(gauge: Gauge) -> list[Cause]:
    return [Cause(INVALID, "too high", "spec.limit")] if gauge.spec.limit > 9 else []
""")
    validators = discover([gauges / "controllers"], packages=[]).validators
    assert [cause.field for cause in validators["example.com", "Gauge"]({"spec": {"limit": 10}})] == ["spec.limit"]
    assert validators["example.com", "Gauge"]({"spec": {"limit": 1}}) == []
