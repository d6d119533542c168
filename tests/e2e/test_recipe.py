"""Adding a kind is four new files and no edit: its definition, its controller, a manifest and a test."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from kastra.config import Settings
from kastra.runtime.discovery import discover
from kastra.testing import ControlPlane
from tests.support import warm

EXAMPLE = Path(__file__).parents[2] / "manifests" / "custom-kind"
TEST = '''
"""A price list is ready, and agents can look prices up."""

from kastra.testing import ControlPlane

pytest_plugins = ["kastra.testing.pytest_plugin"]


async def test_a_price_list_owns_a_lookup_tool(env: ControlPlane) -> None:
    await env.apply("crds", "manifests")
    await env.settle()
    prices = await env.get("DataSource", "prices")
    assert prices.is_condition_true("Ready")
    assert prices.status["rows"] == 4
    assert [obj.name for obj in await env.owned_by(prices)] == ["prices-rows", "prices-lookup"]


async def test_a_price_list_without_its_key_says_so(env: ControlPlane) -> None:
    await env.apply("crds", {
        "apiVersion": "example.com/v1",
        "kind": "DataSource",
        "metadata": {"name": "odd"},
        "spec": {"rows": "product,price", "key": "colour"},
    })
    await env.settle()
    source = await env.get(env.manager.view("DataSource"), "odd")
    assert source.condition("Ready").reason == "NoSuchColumn"
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the four files and nothing else."""
    folder = tmp_path / "project"
    for name in ("controllers", "crds", "manifests", "tests"):
        (folder / name).mkdir(parents=True)
    copyfile(EXAMPLE / "controllers" / "datasource.py", folder / "controllers" / "datasource.py")
    copyfile(EXAMPLE / "crd.yaml", folder / "crds" / "datasources.yaml")
    copyfile(EXAMPLE / "prices.yaml", folder / "manifests" / "prices.yaml")
    (folder / "tests" / "test_datasource.py").write_text(TEST, encoding="utf-8")
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 4
    return folder


async def lists_prices(env: ControlPlane, *sources: Path) -> bool:
    await env.apply(*sources)
    await env.settle()
    prices = await env.get("DataSource", "prices")
    owned = [obj.name for obj in await env.owned_by(prices)]
    return prices.is_condition_true("Ready") and owned == ["prices-rows", "prices-lookup"]


async def test_four_files_in_a_project_make_a_kind_live(project) -> None:
    async with ControlPlane(settings=Settings(project=project)) as env:
        assert await lists_prices(env, project / "crds", project / "manifests")


async def test_the_folder_of_controllers_is_a_setting(project) -> None:
    (project / "controllers").rename(project / "kinds")
    async with ControlPlane(settings=Settings(project=project, controllers=("kinds",))) as env:
        assert await lists_prices(env, project / "crds", project / "manifests")


async def test_without_its_controller_the_kind_is_served_and_nothing_comes_of_it(project) -> None:
    async with ControlPlane(settings=Settings(project=project, controllers=())) as env:
        await env.apply("crds", "manifests")
        await env.settle()
        assert (await env.get("DataSource", "prices")).status == {}


@pytest.mark.timeout(120)
def test_its_test_runs_as_it_stands(project) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(project)]
    done = subprocess.run(
        command, cwd=project, env=warm.environment(), capture_output=True, text=True, timeout=110, check=False
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def package(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same files in an installed distribution that declares an entry point."""
    site = tmp_path / "site"
    (site / "acme_kinds").mkdir(parents=True)
    (site / "acme_kinds-1.0.dist-info").mkdir()
    (site / "acme_kinds" / "__init__.py").write_text('"""Kinds of Acme."""\n', encoding="utf-8")
    copyfile(project / "controllers" / "datasource.py", site / "acme_kinds" / "datasource.py")
    for name, text in {
        "METADATA": "Metadata-Version: 2.1\nName: acme-kinds\nVersion: 1.0\n",
        "entry_points.txt": "[kastra.controllers]\nacme = acme_kinds\n",
    }.items():
        (site / "acme_kinds-1.0.dist-info" / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield "acme_kinds"
    for name in ("acme_kinds", "acme_kinds.datasource"):
        sys.modules.pop(name, None)


def test_a_package_is_walked_for_kinds(package) -> None:
    found = discover(packages=[package])
    assert [spec.kind for spec in found.controllers] == ["DataSource.example.com"]
    assert [view.api_kind for view in found.views] == ["DataSource"]
    assert list(found.validators) == [("example.com", "DataSource")]


async def test_a_package_with_an_entry_point_needs_no_project(package, project, tmp_path) -> None:
    settings = Settings(project=tmp_path / "elsewhere")
    async with ControlPlane(settings=settings) as env:
        view: Any = env.manager.view("DataSource")
        assert view.__module__ == "acme_kinds.datasource"
        assert await lists_prices(env, project / "crds", project / "manifests")
