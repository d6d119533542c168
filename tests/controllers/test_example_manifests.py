"""The example manifests are valid, their references lead somewhere, and the Python behind their tools does what it says."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kastra.api.meta import is_dns_subdomain
from kastra.manifest.loader import Manifest, load
from kastra.runtime.discovery import Discovered, discover
from kastra.schema import CompiledSchema, compile_schema
from tests.contract.views import definition

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
VALID = [
    "manifests/recipes",
    "manifests/etl",
    "manifests/research",
    "manifests/support",
    "manifests/custom-kind",
    "docs/examples/openai",
]
BUILT_IN = {"Namespace", "Secret", "ConfigMap", "CustomResourceDefinition"}


@cache
def kinds() -> Discovered:
    return discover(packages=["kastra.controllers"])


@cache
def schema_of(kind: str) -> CompiledSchema:
    return compile_schema(definition(f"{kind.lower()}s")["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def manifests(folder: str) -> list[Manifest]:
    loaded = load([ROOT / folder])
    assert loaded.problems == []
    assert loaded.manifests
    return loaded.manifests


def own(folder: str) -> list[Manifest]:
    return [m for m in manifests(folder) if m.object["apiVersion"] == "mastra.ai/v1"]


@pytest.mark.parametrize("folder", VALID)
def test_an_example_has_no_mistake(folder: str) -> None:
    for manifest in own(folder):
        admitted = schema_of(manifest.object["kind"]).admit(manifest.object)
        assert (admitted.causes, admitted.pruned) == ((), ()), manifest.file
        validate = kinds().validators["mastra.ai", manifest.object["kind"]]
        assert list(validate(manifest.object)) == [], manifest.file


@pytest.mark.parametrize("folder", VALID)
def test_an_example_has_a_page_that_says_how_to_run_it(folder: str) -> None:
    page = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    assert f"kastra apply -f {folder}\n" in page


@pytest.mark.parametrize("folder", VALID)
def test_the_references_of_an_example_lead_to_its_own_objects(folder: str) -> None:
    known = set[tuple[str, str, str]]()
    asked: list[tuple[str, str, str]] = []
    for manifest in own(folder):
        kind, metadata = manifest.object["kind"], manifest.object["metadata"]
        namespace = metadata.get("namespace", "default")
        known.add((kind, namespace, metadata["name"]))
        view: Any = kinds().views[kind].of(manifest.object)
        if kind == "System":
            known |= {(child_kind, namespace, child.name) for child_kind, child, _ in view.children()}
        for reference in view.references():
            if reference.kind in BUILT_IN:
                continue
            head, dot, rest = reference.name.partition(".")
            place = (head, rest) if dot else (reference.namespace or namespace, reference.name)
            asked.append((reference.kind, *place))
    assert [reference for reference in asked if reference not in known] == []


def test_the_recipe_example_spans_two_namespaces() -> None:
    found = {(m.object["kind"], m.object["metadata"].get("namespace", "default")) for m in own("manifests/recipes")}
    assert found == {("Tool", "cooking"), ("Agent", "cooking"), ("Workflow", "default")}


def test_the_broken_example_has_one_mistake_at_its_place() -> None:
    found = []
    for manifest in own("docs/examples/broken"):
        for cause in kinds().validators["mastra.ai", manifest.object["kind"]](manifest.object):
            found.append(manifest.problem(cause))
    (problem,) = found
    assert (Path(problem.file).name, problem.field) == ("agent.yaml", "spec.model.provider")
    assert (problem.mark.line, problem.mark.column) == (9, 7)
    assert problem.message.startswith('Unsupported value: "opnai": supported values: ')


def module(folder: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", MANIFESTS / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("folder", ["recipes", "etl", "research", "support"])
def test_an_entrypoint_of_an_example_names_a_function_beside_it(folder: str) -> None:
    entrypoints = []
    for manifest in own(f"manifests/{folder}"):
        spec = manifest.object["spec"]
        tools = (
            [spec]
            if manifest.object["kind"] == "Tool"
            else [tool["spec"] for tool in spec.get("tools", ()) if isinstance(tool, dict) and "spec" in tool]
        )
        entrypoints += [tool["python"]["entrypoint"] for tool in tools]
    assert entrypoints
    for entrypoint in entrypoints:
        path, _, function = entrypoint.partition(":")
        package, _, name = path.rpartition(".")
        assert package == f"manifests.{folder}"
        assert callable(getattr(module(folder, name), function))


def test_recipes_are_ranked_by_the_ingredients_at_hand() -> None:
    tools = module("recipes", "recipe_tools")
    found = tools.find_recipes(["tomatoes", "mozzarella", "basil", "olive oil"])
    assert found["recipes"][0]["name"] == "Caprese Salad"
    assert found["recipes"][0]["missing"] == []
    scores = [recipe["score"] for recipe in tools.find_recipes(["eggs", "onion", "rice"], limit=20)["recipes"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 20


def test_recipes_can_be_limited_by_time_and_cuisine() -> None:
    tools = module("recipes", "recipe_tools")
    found = tools.find_recipes(["rice", "eggs", "peas", "soy sauce"], max_minutes=20, cuisine="Chinese")["recipes"]
    assert found[0]["name"] == "Egg Fried Rice"
    assert all(recipe["minutes"] <= 20 and recipe["cuisine"] == "Chinese" for recipe in found)


def test_ingredients_are_found_in_a_sentence_and_in_the_singular() -> None:
    tools = module("recipes", "recipe_tools")
    assert tools.find_recipes(text="An egg, one tomato and some garlic")["recognised"] == ["eggs", "garlic", "tomatoes"]
    assert tools.find_recipes(["unobtainium"])["recipes"] == []


def test_there_are_many_different_recipes() -> None:
    lines = (MANIFESTS / "recipes" / "recipes.jsonl").read_text(encoding="utf-8").splitlines()
    recipes = [json.loads(line) for line in lines]
    assert len({recipe["name"] for recipe in recipes}) == len(recipes) >= 120
    assert len({recipe["cuisine"] for recipe in recipes}) >= 40
    assert all(len(recipe["ingredients"]) >= 3 and len(recipe["steps"]) >= 3 for recipe in recipes)


def test_orders_are_extracted_cleaned_and_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = module("etl", "etl_tools")
    extracted = tools.read_csv("orders.csv")
    cleaned = tools.clean_orders(extracted["rows"])
    assert extracted["count"] == len(cleaned["orders"]) + len(cleaned["rejected"]) == 32
    assert {"order": "1005", "reason": "duplicate"} in cleaned["rejected"]
    assert next(o for o in cleaned["orders"] if o["order"] == "1003")["customer"] == "Mei Tanaka"
    monkeypatch.setattr(tools, "OUTPUT", tmp_path)
    summary = tools.load_summary(**cleaned, file="summary.json")
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["revenue"] == round(sum(order["euros"] for order in cleaned["orders"]), 2)
    assert summary["byProduct"][0]["name"] == "Espresso Machine"


@pytest.mark.parametrize("file", ["../recipes/recipes.jsonl", "/etc/hostname", "a/b.csv"])
def test_the_etl_tools_stay_in_their_folder(file: str) -> None:
    with pytest.raises(ValueError, match="is not a file of etl"):
        module("etl", "etl_tools").read_csv(file)


def test_the_corpus_is_searched_by_meaningful_words() -> None:
    tools = module("research", "research_tools")
    sources = [r["source"] for r in tools.search_corpus("How do batteries store solar power?")["results"]]
    assert sources[0] == "storage-batteries"
    assert tools.search_corpus("what about the")["results"] == []
    found = tools.extract_figures("It fell by 85 percent in 2,500 hours. It fell by 85 percent.")
    assert [figure["figure"] for figure in found["figures"]] == ["85 percent", "2,500 hours"]


def test_the_support_desk_knows_orders_and_frequent_questions() -> None:
    tools = module("support", "support_tools")
    assert "on its way with DHL" in tools.lookup_order(text="Where is a-1002?")["answer"]
    assert tools.lookup_order("Z-9999")["found"] is False
    assert tools.search_faq("How do I descale my machine?")["topic"] == "descaling"
    assert tools.search_faq("Do you like cats?")["found"] is False


def test_names_in_the_examples_are_valid() -> None:
    for folder in [*VALID, "docs/examples/broken"]:
        assert all(is_dns_subdomain(m.object["metadata"]["name"]) for m in manifests(folder))


def test_the_kind_of_the_example_accepts_its_object_and_refuses_an_empty_one() -> None:
    found = {m.object["kind"]: m.object for m in manifests("manifests/custom-kind")}
    crd = found["CustomResourceDefinition"]
    schema = compile_schema(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    assert schema.admit(found["DataSource"]).causes == ()
    empty = {"apiVersion": "example.com/v1", "kind": "DataSource", "metadata": {"name": "x"}, "spec": {}}
    assert [cause.field for cause in schema.admit(empty).causes] == ["spec.rows"]


async def test_the_controller_of_the_example_makes_a_tool_that_looks_rows_up() -> None:
    from kastra.tool.python import compile_inline

    found = discover([MANIFESTS / "custom-kind" / "controllers"], packages=[])
    (controller,) = found.controllers
    assert (controller.kind, controller.owns) == ("DataSource.example.com", ("Tool", "ConfigMap"))
    prices = next(m.object for m in manifests("manifests/custom-kind") if m.object["kind"] == "DataSource")
    ctx = Recorded()
    await controller.reconcile(controller.view.of(prices), ctx)  # type: ignore[arg-type]
    rows, tool = ctx.applied
    assert len(json.loads(rows["data"]["rows.json"])) == ctx.status.rows == 4
    assert schema_of("Tool").admit(tool).causes == ()
    assert list(kinds().validators["mastra.ai", "Tool"](tool)) == []
    look_up = compile_inline(tool["spec"]["python"]["inline"], "prices-lookup")
    assert look_up(product="Burr Grinder") == {"product": "Burr Grinder", "price": "89.50", "stock": "40"}
    assert ctx.said == "4 rows"


class Recorded:
    """What a pass asks of its context, kept instead of done."""

    def __init__(self) -> None:
        self.applied: list[dict[str, Any]] = []
        self.status = SimpleNamespace()
        self.said = ""

    async def apply(self, child: dict[str, Any]) -> None:
        self.applied.append(child)

    def ready(self, message: str) -> None:
        self.said = message
