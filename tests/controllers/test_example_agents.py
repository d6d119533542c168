"""The agents and networks of the examples answer from their rules and their tools alone: neither key nor network is needed."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kastra.agent.assembly import Assembly
from kastra.agent.runners import generate
from kastra.agent.services import AgentServices
from kastra.api.types import Closure, ClosureObject, Reference, closure_id
from kastra.clock import SystemClock
from kastra.engine.direct import DirectContext
from kastra.engine.step import StepError
from kastra.manifest.loader import load
from kastra.netguard import Guard, Policy
from kastra.runtime.discovery import discover

PROJECT = Path(__file__).parents[2]
MANIFESTS = PROJECT / "manifests"
VIEWS = discover(packages=["kastra.controllers"]).views


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's folder is put on the path by the first tool that is called; not for other tests."""
    monkeypatch.setattr(sys, "path", [*sys.path])


class NoSecrets:
    async def read(self, value_from: Mapping[str, Any], namespace: str) -> str:
        raise LookupError(f"there are no secrets here: {sorted(value_from)}")


def closure(folder: str, root: str) -> Closure:
    """Everything in an example, with each reference led to what it names."""
    views: dict[str, Any] = {}
    for manifest in load([MANIFESTS / folder]).manifests:
        kind, metadata, spec = manifest.object["kind"], manifest.object["metadata"], manifest.object["spec"]
        if kind == "System":
            for child_kind, child, _ in VIEWS[kind].of(manifest.object).children():  # type: ignore[attr-defined]
                given = {"model": spec["defaults"]["model"], **child.spec} if child_kind == "Agent" else child.spec
                add(views, child_kind, metadata["namespace"], child.name, given)
        else:
            add(views, kind, metadata.get("namespace", "default"), metadata["name"], spec)
    objects: dict[str, ClosureObject] = {}
    for identity, view in views.items():
        kind, namespace, name = identity.split("/")
        objects[identity] = ClosureObject(
            kind=kind,
            namespace=namespace,
            name=name,
            uid=identity,
            generation=1,
            spec=view.spec.plain(),
            refs={reference.path: target(reference, namespace, views) for reference in view.references()},
        )
    return Closure(root=root, objects=objects)


def add(views: dict[str, Any], kind: str, namespace: str, name: str, spec: Any) -> None:
    view = VIEWS.find(kind)
    if view is not None and kind != "Workflow":
        views[closure_id(kind, namespace, name)] = view.of({"spec": spec})


def target(reference: Reference, namespace: str, known: Mapping[str, Any]) -> str:
    same = closure_id(reference.kind, reference.namespace or namespace, reference.name)
    return same if same in known else closure_id(reference.kind, *reference.name.split(".", 1))


async def ask(folder: str, root: str, given: Any) -> Any:
    """What an agent or network of an example answers."""
    async with Guard(Policy()) as guard:
        services = AgentServices(guard, SystemClock(), NoSecrets(), PROJECT)
        return await generate(Assembly(services), closure(folder, root), given, DirectContext(commit=keep))


async def keep(statements: Any) -> None:
    """Writes of shared state have nowhere to go in a direct call."""


ASSISTANT = "Agent/cooking/recipe-assistant"


async def test_the_recipe_assistant_suggests_the_best_recipe_for_a_list() -> None:
    given = {"ingredients": ["tomatoes", "mozzarella", "basil", "olive oil"]}
    answer = (await ask("recipes", ASSISTANT, given))["text"]
    assert answer.startswith(
        "Try Caprese Salad (Italian, 10 minutes). You have tomatoes, mozzarella, basil, olive oil;"
    )
    assert "nothing is missing" in answer


async def test_the_recipe_assistant_understands_a_sentence_and_says_what_is_missing() -> None:
    answer = (await ask("recipes", ASSISTANT, "I have eggs, tomatoes, onion and garlic. What can I cook?"))["text"]
    assert answer.startswith("Try Shakshuka (Tunisian, 30 minutes).")
    assert "still needed: bell pepper, cumin, paprika, olive oil." in answer


async def test_the_recipe_assistant_says_when_it_knows_nothing() -> None:
    assert "I know no recipe" in (await ask("recipes", ASSISTANT, {"ingredients": ["gravel"]}))["text"]


async def test_three_agents_turn_a_file_into_a_summary() -> None:
    extracted = (await ask("etl", "Agent/etl/extractor", {"source": "orders.csv"}))["object"]
    transformed = (await ask("etl", "Agent/etl/transformer", {"rows": extracted["rows"]}))["object"]
    loaded = (await ask("etl", "Agent/etl/loader", {**transformed, "file": ""}))["object"]
    assert loaded["summary"]["orders"] == 25
    assert loaded["report"].startswith("25 orders bring 2905.19 euros, most of it with Espresso Machine; 7 rows")


async def test_an_agent_tells_what_its_tool_could_not_do() -> None:
    with pytest.raises(StepError, match="rows"):
        await ask("etl", "Agent/etl/extractor", {"source": "../secrets.csv"})


async def test_the_research_network_searches_finds_figures_and_sums_up() -> None:
    found = await ask(
        "research", "Network/research/research-network", {"question": "How do batteries store solar power?"}
    )
    assert [turn["next"] for turn in found["turns"]] == ["search-agent", "analysis-agent", "summary-agent"]
    assert found["stopReason"] == "Completed"
    assert "[storage-batteries]" in found["output"]
    assert found["output"].endswith("Figures: 85 percent.")
    assert found["state"] == {
        "question": "How do batteries store solar power?",
        "done": ["searched", "analysed", "summarised"],
    }


@pytest.mark.parametrize(
    ("agent", "given", "answer"),
    [
        ("order-desk", {"question": "Where is it?", "order": "A-1002"}, "is on its way with DHL"),
        ("order-desk", "Where is my order A-1005?", "39.0 euros were refunded"),
        ("order-desk", "Where is my order?", "numbers look like A-1002"),
        ("faq-desk", {"question": "How do I descale the machine?"}, "Descale every two months"),
        ("faq-desk", "May I send it back?", "within 30 days"),
    ],
)
async def test_the_support_desks_answer(agent: str, given: Any, answer: str) -> None:
    assert answer in (await ask("support", f"Agent/support/{agent}", given))["text"]
