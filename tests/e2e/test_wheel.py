"""What is installed from a wheel works in an empty folder; what a checkout has is one package, however it is imported."""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MANIFEST = """apiVersion: mastra.ai/v1
kind: Agent
metadata: {name: greeter}
spec:
  instructions: Greet.
  model: {provider: scripted, parameters: {rules: [{reply: Hello.}]}}
"""

SCRIPT = """
import asyncio, sys
import kastra
import kastra.controllers.agent
from kastra.api.meta import ObjectRef

async def main() -> None:
    async with kastra.open(":memory:") as k:
        report = await k.apply(sys.argv[1])
        assert report.ok, report.problems
        await k.settle()
        agent = await k.client.get(ObjectRef("agents", "greeter", "default"))
        assert agent.is_condition_true("Ready"), agent.status
        print((await k.run("agent/greeter", "hi")).output)

asyncio.run(main())
print(kastra.__file__)
print(kastra.controllers.agent.__file__)
"""


def run(*command: str | Path, cwd: Path, timeout: float = 100) -> str:
    """Standard output of a command that knows nothing of this checkout; its words if it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "KASTRA"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path) -> tuple[Path, Path, Path]:
    """The sdist, the wheel that is made of it, and the wheel that pip makes of a checkout."""
    # Without its own environment it needs no network, where the tool that builds happens to be installed.
    isolation = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "build", *isolation, "--outdir", folder, ROOT, cwd=folder)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    run(sys.executable, "-m", "build", *isolation, "--wheel", "--outdir", folder / "direct", ROOT, cwd=folder)
    [direct] = (folder / "direct").glob("*.whl")
    return sdist, wheel, direct


def install(wheel: Path, folder: Path) -> Path:
    """A new environment with the wheel; what it depends on is borrowed from this one. Returns its folder of programs."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / Path(sys.executable).name
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder.parent)
    # A line of a .pth file is a folder to look in; the .pth files in that folder, such as the one of an editable
    # install, are not read.
    borrowed = Path(sysconfig.get_path("purelib"))
    found = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(found) / "borrowed.pth").write_text(f"{borrowed}\n")
    return programs


@pytest.mark.timeout(120)
def test_a_wheel_built_from_the_sdist_runs_in_an_empty_folder(tmp_path: Path) -> None:
    """One test, so that it is built once."""
    dist, empty = tmp_path / "dist", tmp_path / "empty"
    dist.mkdir()
    empty.mkdir()
    sdist, wheel, direct = build(dist)
    names = zipfile.ZipFile(wheel).namelist()
    assert sorted(names) == sorted(zipfile.ZipFile(direct).namelist()), "a checkout gives the same wheel"
    assert len(names) == len(set(names)), "no file stands in the wheel twice"
    for folder, pattern in (("controllers", "*.py"), ("crds", "*.yaml")):
        expected = {f"kastra/{folder}/{file.name}" for file in (ROOT / folder).glob(pattern)}
        assert expected <= set(names)
        assert not [name for name in names if name.startswith(f"{folder}/")]
    templates = ROOT / "kastra" / "scaffold" / "templates"
    expected = {str(file.relative_to(ROOT)) for file in templates.rglob("*") if file.is_file()}
    assert expected
    assert expected <= set(names), "templates of `kastra init` and `kastra new`"
    links = [info.filename for info in zipfile.ZipFile(wheel).infolist() if info.external_attr >> 28 == 0xA]
    assert links == [], "every file is a real one"
    with tarfile.open(sdist) as archive:
        packed = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert {"controllers/agent.py", "crds/agents.yaml", "manifests/recipes/recipes.jsonl", "LICENSE"} <= packed
    programs = install(wheel, tmp_path / "venv")
    (tmp_path / "agent.yaml").write_text(MANIFEST)
    python = programs / Path(sys.executable).name
    answer, package, controller = run(python, "-c", SCRIPT, tmp_path / "agent.yaml", cwd=empty).splitlines()
    assert answer == "Hello."
    assert Path(package).is_relative_to(tmp_path / "venv")
    assert Path(controller).parent == Path(package).parent / "controllers"
    assert list(empty.iterdir()) == []
    version = run(programs / "kastra", "version", cwd=empty)
    assert version.splitlines()[0].split() == ["kastra:", importlib.import_module("kastra").__version__]


def test_controllers_are_one_package() -> None:
    inside = importlib.import_module("kastra.controllers.agent")
    assert inside.__name__ == "kastra.controllers.agent"
    assert Path(str(inside.__file__)).resolve() == ROOT / "controllers" / "agent.py"
    assert "controllers" not in sys.modules
    assert "controllers.agent" not in sys.modules


@pytest.mark.parametrize("line", ["import controllers.agent", "from controllers import agent", "import controllers"])
def test_the_other_way_to_import_them_is_refused_by_lint(tmp_path: Path, line: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(f"{line}\n")
    ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert ruff is not None
    options = [
        "--config",
        str(ROOT / "pyproject.toml"),
        "--select",
        "TID251",
        "--no-cache",
        "--output-format",
        "concise",
    ]
    found = subprocess.run([ruff, "check", *options, str(file)], capture_output=True, text=True)
    assert found.returncode == 1
    assert "TID251" in found.stdout


@pytest.mark.parametrize("name", ["controllers", "crds"])
def test_the_links_of_a_checkout_are_committed_as_links(name: str) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    entry = subprocess.run(
        ["git", "ls-files", "-s", f"kastra/{name}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    mode, blob = entry.split()[:2]
    assert mode == "120000"
    target = subprocess.run(["git", "cat-file", "blob", blob], cwd=ROOT, capture_output=True, text=True, check=True)
    assert target.stdout == f"../{name}"
    assert (ROOT / "kastra" / name).is_dir()
