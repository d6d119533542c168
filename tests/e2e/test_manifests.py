"""The example manifests, as a new user gets them: every object becomes Ready, and every example that runs gives a real answer."""

import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import kastra
from kastra.config import load_settings

ROOT = Path(__file__).parents[2]
FOLDERS = ["recipes", "etl", "research", "support", "custom-kind"]
CONFIGURED = ("tools", "agents", "workflows", "networks", "systems", "models", "modelproviders")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone of this repository, as far as examples go."""
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests", ignore=shutil.ignore_patterns("__pycache__", ".out"))
    shutil.copy(ROOT / "kastra.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    # The first tool that is called puts the project on the path and its modules into the process; each test has its own.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path or ".").resolve() != ROOT])
    for name in [name for name in sys.modules if name == "manifests" or name.startswith("manifests.")]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name == "manifests" or name.startswith("manifests.")]:
        del sys.modules[name]


@pytest.fixture
async def k(project: Path) -> AsyncIterator[kastra.Kastra]:
    async with kastra.open(":memory:", settings=load_settings(project, {})) as opened:
        yield opened


async def applied(k: kastra.Kastra, *sources: str) -> None:
    """Apply, and check that everything is Ready, children included."""
    report = await k.apply(*sources)
    assert report.problems == []
    assert await k.settle(30)
    kinds = [kind for kind in (*CONFIGURED, "datasources") if kind in k.client.scheme.names()]
    objects = [obj for kind in kinds for obj in (await k.client.list(kind, None)).items]
    assert {f"{obj.kind}/{obj.name}": obj.condition("Ready") for obj in objects if not is_ready(obj)} == {}
    named = {(one.ref.kind.partition(".")[0], one.ref.name) for one in report.applied}
    assert {("Agent", obj.name) for obj in objects if obj.kind == "Agent"} <= named | {
        (obj.kind, obj.name) for obj in objects if obj.owner_references
    }


def is_ready(obj: Any) -> bool:
    condition = obj.condition("Ready")
    return condition is not None and condition["status"] == "True" and condition["observedGeneration"] == obj.generation


@pytest.mark.parametrize("folder", FOLDERS)
async def test_every_object_of_an_example_becomes_ready(k: kastra.Kastra, folder: str) -> None:
    await applied(k, f"manifests/{folder}")


async def test_all_examples_together_become_ready_and_start_nothing(k: kastra.Kastra) -> None:
    await applied(k, "manifests")
    assert (await k.client.list("runs", None)).items == []


async def test_applying_all_examples_again_changes_nothing(k: kastra.Kastra) -> None:
    await applied(k, "manifests")
    again = await k.apply("manifests")
    assert {one.verb for one in again.applied} == {"unchanged"}


async def test_the_recipe_workflow_answers_by_the_ingredients_it_is_given(k: kastra.Kastra) -> None:
    await applied(k, "manifests/recipes")
    eggs = await k.run("workflow/recipe-suggestion", input={"ingredients": ["eggs", "tomatoes", "onion", "garlic"]})
    rice = await k.run("workflow/recipe-suggestion", input={"ingredients": ["rice", "peas", "eggs", "soy sauce"]})
    nothing = await k.run("workflow/recipe-suggestion", input={"ingredients": ["gravel"]})
    assert eggs.output.startswith("Try Shakshuka (Tunisian, 30 minutes). You have eggs, tomatoes, onion, garlic;")
    assert rice.output.startswith("Try Egg Fried Rice (Chinese,")
    assert nothing.output == "I know no recipe with these ingredients. Tell me what else you have."


async def test_the_etl_workflow_turns_a_file_into_a_summary(k: kastra.Kastra, project: Path) -> None:
    await applied(k, "manifests/etl")
    done = await k.run("workflow/orders-etl", input={"source": "orders.csv"}, namespace="etl")
    assert done.output["report"].startswith("25 orders bring 2905.19 euros")
    assert len(done.output["rejected"]) == 7
    source = project / "manifests" / "etl" / "one.csv"
    header, first, *_ = (project / "manifests" / "etl" / "orders.csv").read_text().splitlines()
    source.write_text(f"{header}\n{first}\n")
    once = await k.run("workflow/orders-etl", input={"source": "one.csv", "target": "one.json"}, namespace="etl")
    assert once.output["summary"]["revenue"] == 249.0
    written = json.loads((project / "manifests" / "etl" / ".out" / "one.json").read_text())
    assert written == once.output["summary"]


async def test_the_research_network_answers_from_the_sources_that_fit_the_question(k: kastra.Kastra) -> None:
    await applied(k, "manifests/research")
    batteries = await k.run(
        "network/research-network", input={"question": "How do batteries store solar power?"}, namespace="research"
    )
    wind = await k.run(
        "network/research-network", input={"question": "What does offshore wind cost?"}, namespace="research"
    )
    assert "[storage-batteries]" in answer(batteries)
    assert "[wind-offshore]" in answer(wind)
    assert "[wind-offshore]" not in answer(batteries)


def answer(result: Any) -> str:
    return result.output if isinstance(result.output, str) else json.dumps(result.output)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"question": "Where is my order A-1002?"}, "is on its way with DHL"),
        ({"question": "Where is it?", "order": "A-1005"}, "39.0 euros were refunded"),
        ({"question": "How do I descale the machine?"}, "Descale every two months"),
    ],
)
async def test_the_support_system_sends_a_question_to_the_desk_that_knows(
    k: kastra.Kastra, given: dict[str, str], expected: str
) -> None:
    await applied(k, "manifests/support")
    done = await k.run("workflow/support-request", input=given, namespace="support")
    assert expected in done.output


async def test_the_tool_that_the_custom_kind_makes_knows_its_rows_and_follows_their_changes(k: kastra.Kastra) -> None:
    await applied(k, "manifests/custom-kind")
    before = await k.run("tool/prices-lookup", input={"product": "Burr Grinder"})
    assert before.output == {"product": "Burr Grinder", "price": "89.50", "stock": "40"}
    file = Path("manifests/custom-kind/prices.yaml")
    file.write_text(file.read_text().replace("89.50,40", "79.00,3"))
    await applied(k, "manifests/custom-kind")
    after = await k.run("tool/prices-lookup", input={"product": "Burr Grinder"})
    assert after.output == {"product": "Burr Grinder", "price": "79.00", "stock": "3"}


async def test_the_openai_example_says_what_it_waits_for_and_becomes_ready_when_the_key_appears(
    project: Path,
) -> None:
    async with kastra.open(":memory:", settings=load_settings(project, {})) as k:
        report = await k.apply(ROOT / "docs" / "examples" / "openai")
        assert report.ok
        await k.settle(30)
        writer = (await k.client.list("agents", None)).items[0]
        assert not is_ready(writer)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "openai", "namespace": "default"},
            "stringData": {"api-key": "sk-not-a-real-key"},
        }
        await k.client.create(secret)
        await k.settle(30)
        writer = (await k.client.list("agents", None)).items[0]
        assert is_ready(writer), writer.status
