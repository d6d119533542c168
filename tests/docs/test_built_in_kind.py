"""A kind is built in by four new files and no edit: a definition, a controller, a page, a test.

The package and its documentation are copied, the four files put in, and their own test run there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import warm

from .pages import ROOT

DEFINITION = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.mastra.ai}
spec:
  group: mastra.ai
  scope: Namespaced
  names:
    kind: Gadget
    plural: gadgets
    singular: gadget
    shortNames: [gd]
    categories: [kastra, all]
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: READY, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status', description: Whether it works}
    schema:
      openAPIV3Schema:
        description: Something handy.
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, description: How large it is.}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
CONTROLLER = """\
from kastra.api.errors import Cause
from kastra.runtime.declarative import Context, controller
from kastra.runtime.reconcile import Result
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import invalid


class GadgetSpec(Fields):
    size: int


class GadgetView(View, kind="Gadget"):
    spec: GadgetSpec


def validate(view: GadgetView) -> list[Cause]:
    return [] if view.spec.size % 2 == 0 else [invalid(view.spec.size, "must be even", "spec.size")]


@controller(GadgetView)
async def reconcile(gadget: GadgetView, ctx: Context) -> Result:
    return ctx.ready(f"size {gadget.spec.size}")
"""
PAGE = """\
# Gadget

<!-- generated: summary Gadget -->
<!-- end of generated -->

<!-- generated: columns Gadget -->
<!-- end of generated -->

<!-- generated: fields Gadget spec -->
<!-- end of generated -->
"""
TEST = """\
import sys
from pathlib import Path

import pytest

import kastra
from kastra.apiserver.rbac_defaults import roles
from kastra.testing import ApplyFailed, ControlPlane

HERE = Path(__file__).parents[2]
GADGET = "apiVersion: mastra.ai/v1\\nkind: Gadget\\nmetadata: {name: g}\\nspec: {size: %d}\\n"


async def test_the_kind_is_served_checked_reconciled_and_allowed() -> None:
    assert Path(kastra.__file__).is_relative_to(HERE), "the copy isn't what is tested"
    async with ControlPlane(HERE, execute=False) as env:
        await env.apply(GADGET % 2)
        await env.settle()
        assert (await env.get("gd", "g")).condition("Ready")["message"] == "size 2"
        with pytest.raises(ApplyFailed, match="spec.size: .*must be even"):
            await env.apply(GADGET % 3)
        with pytest.raises(ApplyFailed, match="spec.size"):
            await env.apply(GADGET.replace("%d", "big"))
        resource = env.client.scheme.find("gadgets")
        assert resource.categories == ("kastra", "all")
        rules = roles(env.client.scheme)
        for role in ("system:aggregate-to-view", "system:aggregate-to-edit", "system:runs"):
            assert any("gadgets" in rule["resources"] for rule in rules[role]), role
        assert "gadget" in env.manager.controllers


def test_the_documentation_has_it() -> None:
    sys.path.insert(0, str(HERE / "docs"))
    import generate

    page = (HERE / "docs" / "kinds" / "gadget.md").read_text()
    filled = generate.generated(page)
    assert "`spec.size` | integer | How large it is." in filled
    assert "Whether it works" in filled
    assert "| [Gadget](gadget.md) | Something handy. |" in generate.kinds()
    assert "[Gadget](kinds/gadget.md)" in generate.kind_links()
"""


@pytest.mark.timeout(120)
def test_a_kind_is_built_in_by_four_new_files(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("*.pyc.*")  # byte-code that another process is just writing
    # The two folders that the package links to come along as what they hold.
    shutil.copytree(ROOT / "kastra", tmp_path / "kastra", ignore=ignored)
    shutil.copytree(ROOT / "crds", tmp_path / "crds", ignore=ignored)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=ignored)
    files = {
        "crds/gadgets.yaml": DEFINITION,
        "kastra/crds/gadgets.yaml": DEFINITION,
        "kastra/controllers/gadget.py": CONTROLLER,
        "docs/kinds/gadget.md": PAGE,
        "tests/controllers/test_gadget.py": TEST,
    }
    for name, text in files.items():
        path = tmp_path / name
        assert not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "kastra.toml").write_text("controllers = []\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/controllers/test_gadget.py",
         "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "anyio", "-o", "anyio_mode=auto"],
        cwd=tmp_path, env=warm.environment(PYTHONPATH=str(tmp_path)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
