"""Discovery finds views, validators and controllers in folders and packages, and says where a broken one is broken."""

import logging
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from kastra.runtime import ControllerSpec, DiscoveryError, discover

GAUGE = """
from kastra.api.errors import Cause
from kastra.runtime import Context, Fields, Result, View, controller


class GaugeSpec(Fields):
    limit: int = 0


class Gauge(View, kind="Gauge", group="example.com"):
    spec: GaugeSpec = GaugeSpec()


def validate(gauge: Gauge) -> list[Cause]:
    if gauge.spec.limit < 0:
        return [Cause("FieldValueInvalid", "must not be negative", "spec.limit")]
    return []


@controller(Gauge, owns=["Tool"])
async def reconcile(gauge: Gauge, ctx: Context) -> Result:
    return ctx.ready()
"""


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_a_module_of_a_folder_gives_its_view_validator_and_controller(tmp_path: Path) -> None:
    found = discover([folder(tmp_path, gauge=GAUGE)], packages=[])
    assert [(spec.kind, spec.name, spec.owns) for spec in found.controllers] == [
        ("Gauge.example.com", "gauge", ("Tool",))
    ]
    assert found.views["Gauge"].__name__ == "Gauge"
    validator = found.validators["example.com", "Gauge"]
    body = {"apiVersion": "example.com/v1", "kind": "Gauge", "metadata": {"name": "g"}}
    assert list(validator({**body, "spec": {"limit": 1}})) == []
    assert [cause.field for cause in validator({**body, "spec": {"limit": -1}})] == ["spec.limit"]


def test_a_view_alone_refuses_what_it_can_not_read(tmp_path: Path) -> None:
    text = GAUGE.replace("def validate", "def unused")
    found = discover([folder(tmp_path, gauge=text)], packages=[])
    causes = found.validators["example.com", "Gauge"]({"metadata": {"name": "g"}, "spec": {"limit": "many"}})
    assert [cause.field for cause in causes] == ["spec.limit"]


def test_a_setup_function_is_found_but_not_called(tmp_path: Path) -> None:
    found = discover([folder(tmp_path, a="def setup(manager):\n    raise RuntimeError('called')\n")], packages=[])
    assert len(found.setups) == 1


def test_what_a_module_imports_is_not_found_twice(tmp_path: Path) -> None:
    found = discover(
        [folder(tmp_path, gauge=GAUGE, more="from .gauge import Gauge, reconcile, validate\n")], packages=[]
    )
    assert len(found.controllers) == 1


def test_a_users_folder_is_never_importable_as_controllers(tmp_path: Path) -> None:
    discover([folder(tmp_path, gauge=GAUGE)], packages=[])
    assert "gauge" not in sys.modules
    assert all(not name.startswith("controllers.gauge") for name in sys.modules)


def test_a_changed_file_is_loaded_anew(tmp_path: Path) -> None:
    discover([folder(tmp_path, gauge=GAUGE)], packages=[])
    (tmp_path / "gauge.py").write_text(GAUGE.replace('kind="Gauge"', 'kind="Meter"') + "\n# longer\n")
    assert discover([tmp_path], packages=[]).controllers[0].kind == "Meter.example.com"


def test_a_folder_that_is_not_there_has_nothing_in_it(tmp_path: Path) -> None:
    found = discover([tmp_path / "none"], packages=[])
    assert (found.controllers, found.setups, list(found.views)) == ([], [], [])


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 1\ny = 1 / 0\n", 2, "ZeroDivisionError"),
        ("x = (\n", 1, "SyntaxError"),
        ("import nowhere_at_all\n", 1, "nowhere"),
    ],
)
def test_a_module_that_does_not_load_is_named_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        discover([folder(tmp_path, broken=text)], packages=[])
    assert f"{tmp_path / 'broken.py'}:{line}" in str(caught.value)
    assert says in str(caught.value)


def test_a_module_that_keeps_everybody_waiting_is_told_while_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()
    shared = ModuleType("told_of_the_import")
    vars(shared)["wait"] = told.wait
    monkeypatch.setitem(sys.modules, shared.__name__, shared)
    monkeypatch.setattr("kastra.runtime.discovery.SLOW_IMPORT", 0.01)

    def tell(record: logging.LogRecord) -> bool:
        told.set()
        return True

    caplog.handler.addFilter(tell)
    path = folder(tmp_path, slow=f"import {shared.__name__}\nassert {shared.__name__}.wait(5)\n")
    discover([path], packages=[])
    assert f"{path}/slow.py: is still being imported after 0.01 s" in caplog.text


def test_two_views_of_one_kind_are_refused_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match=r"Gauge.example.com has two views: .*\.a\.Gauge and .*\.b\.Gauge"):
        discover([folder(tmp_path, a=GAUGE, b=GAUGE)], packages=[])


def test_with_two_views_a_module_says_which_one_it_validates(tmp_path: Path) -> None:
    other = "\n\nclass Meter(View, kind='Meter', group='example.com'):\n    pass\n"
    found = discover([folder(tmp_path, gauge=GAUGE + other)], packages=[])
    body = {"metadata": {"name": "g"}, "spec": {"limit": -1}}
    assert len(found.validators["example.com", "Gauge"](body)) == 1
    assert len(found.validators["example.com", "Meter"](body)) == 0
    with pytest.raises(DiscoveryError, match="annotate its parameter"):
        discover(
            [folder(tmp_path, gauge=GAUGE.replace("validate(gauge: Gauge)", "validate(gauge)") + other)], packages=[]
        )


def test_installed_packages_are_found_by_their_entry_point() -> None:
    found = discover()
    assert all(isinstance(spec, ControllerSpec) for spec in found.controllers)
