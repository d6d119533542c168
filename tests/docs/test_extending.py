"""The fragments of the page on extending work when they are put where the page says; its whole files are run with the
other pages.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane

from .pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "extending.md"
Start = Callable[..., AbstractAsyncContextManager[ControlPlane]]


def file(name: str) -> str:
    return next(block.text for block in blocks_of(PAGE) if block.option("file") == name)


def fragment(text: str) -> str:
    (found,) = [block.text for block in blocks_of(PAGE) if "fragment" in block.words and text in block.text]
    return found


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A control plane whose project has the page's controller, followed by the code given."""

    @asynccontextmanager
    async def begin(code: str, spec: str = "", field: str = "") -> AsyncIterator[ControlPlane]:
        controller = file("controllers/glossary.py").replace(
            "    terms: dict[str, str]\n", f"    terms: dict[str, str]\n{spec}"
        )
        definition = file("crds/glossaries.yaml").replace("              terms:\n", f"{field}              terms:\n", 1)
        for name, text in {"controllers/glossary.py": controller + code, "crds/glossaries.yaml": definition}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as env:
            await env.apply("crds")
            yield env

    return begin


def glossary(**spec: Any) -> dict[str, Any]:
    body = {"apiVersion": "example.com/v1", "kind": "Glossary", "metadata": {"name": "g"}}
    return {**body, "spec": {"terms": {"crema": "Foam."}, **spec}}


async def test_a_finalizer_runs_before_the_object_goes(start, tmp_path) -> None:
    unpublish = f"""

async def unpublish(name):
    from pathlib import Path

    Path({str(tmp_path / "gone")!r}).write_text(name)

"""
    async with start(unpublish + fragment("@reconcile.finalizer")) as env:
        await env.apply(glossary())
        await env.settle()
        await env.client.delete((await env.get("Glossary", "g")).ref)
        await env.settle()
        assert (tmp_path / "gone").read_text() == "g"
        assert (await env.client.list("Glossary")).items == []


async def test_a_reference_is_resolved_and_watched(start) -> None:
    code = fragment("def references")
    async with start(code, spec="    agent: str\n", field="              agent: {type: string}\n") as env:
        await env.apply(glossary(agent="helper"))
        await env.settle()
        before = (await env.get("Glossary", "g")).condition("Ready")
        assert before["reason"] == "NotFound"
        assert "helper" in before["message"]
        await env.apply(
            "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata: {name: helper}\nspec: {instructions: Help.}\n"
        )
        await env.settle()
        assert (await env.get("Glossary", "g")).is_condition_true("Ready")


async def test_what_a_schema_can_not_say_is_refused_at_its_field(start) -> None:
    async with start(fragment("def validate")) as env:
        await env.apply(glossary())
        with pytest.raises(ApplyFailed, match=r"spec.terms\[ crema\]: Invalid value: a term has no spaces around it"):
            await env.apply(glossary(terms={" crema": "Foam."}))


async def test_setup_adds_controllers_of_any_shape(start) -> None:
    async with start(fragment("def setup")) as env:
        await env.apply(glossary())
        await env.settle()
        module = sys.modules[env.manager.view("Glossary").__module__]
        assert env.manager.service(module.Counter).counts == {"g": 1}
