"""What installed packages add is found by their metadata, imported when it is needed, and never takes a process down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import warm
from tests.support.distribution import install

BROKEN = "x = 1\ny = 1 / 0\n"
MODULES = {
    "acme/__init__.py": "",
    "acme/tools.py": "def weather(city: str) -> str:\n    return f'rain in {city}'\n",
    "acme/models.py": "def create(config, services):\n    raise TypeError('no')\n",
    "acme/admission.py": (
        "from kastra.api.errors import Forbidden\n\n\n"
        "async def judge(attributes):\n"
        "    if attributes.name == 'never':\n        raise Forbidden('never')\n"
        "    if attributes.name == 'breaks':\n        raise KeyError('oops')\n\n\n"
        "class Stamp:\n"
        "    def applies(self, attributes):\n        return attributes.resource.kind == 'ConfigMap'\n\n"
        "    async def __call__(self, attributes):\n"
        "        attributes.object['metadata'].setdefault('labels', {})['stamped'] = 'yes'\n"
    ),
    "acme/vectors.py": (
        "class Index:\n    def __init__(self, dimensions):\n        self.ids = []\n\n"
        "    def add(self, ids, vectors):\n        self.ids += ids\n\n"
        "    def search(self, vector, k):\n        return [(number, 1.0) for number in self.ids[:k]]\n"
    ),
    "acme/commands.py": "import click\n\n\n@click.command()\ndef hello():\n    click.echo('hello')\n",
    "acme/kinds/__init__.py": "",
    "acme/kinds/badge.py": (
        "from kastra import Context, Result, View, controller\n\n\n"
        "class Badge(View, kind='Badge', group='acme.com'):\n    pass\n\n\n"
        "@controller(Badge)\nasync def reconcile(badge: Badge, ctx: Context) -> Result:\n    return ctx.ready()\n"
    ),
}
POINTS = {
    "kastra.tools": {"acme-weather": "acme.tools:weather"},
    "kastra.models": {"acme": "acme.models:create"},
    "kastra.admission": {"acme-judge": "acme.admission:judge", "acme-stamp": "acme.admission:Stamp"},
    "kastra.commands": {"hello": "acme.commands:hello"},
    "kastra.controllers": {"acme": "acme.kinds"},
    "kastra.vectors": {"acme": "acme.vectors:Index"},
}
PROVIDER = "apiVersion: mastra.ai/v1\nkind: ModelProvider\nmetadata: {name: p}\nspec: {type: acme}\n"
TOOL = "apiVersion: mastra.ai/v1\nkind: Tool\nmetadata: {name: t}\nspec: {python: {plugin: NAME}}\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".kastra").mkdir(parents=True, mode=0o700)
    (tmp_path / "project" / ".kastra").chmod(0o700)
    return tmp_path / "site"


def in_project(site: Path, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KASTRA_", "PYTEST_"))}
    return subprocess.run(
        command, cwd=site.parent / "project", env={**kept, "PYTHONPATH": str(site)}, input=stdin,
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def kastra(site: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return in_project(site, warm.kastra(), *arguments, stdin=stdin)


def listed(site: Path, *options: str) -> dict[tuple[str, str, str], dict[str, str]]:
    done = kastra(site, "plugins", "-o", "json", *options)
    assert done.returncode == 0, done.stderr
    return {(row["group"], row["name"], row["package"]): row for row in json.loads(done.stdout)}


def test_every_plugin_is_listed_with_its_package_and_its_module(site: Path) -> None:
    install(site, "acme-kastra", MODULES, POINTS)
    rows = listed(site)
    assert {(group, name) for group, name, _ in rows} == {
        (group, name) for group, points in POINTS.items() for name in points
    }
    assert {(row["package"], row["version"], row["status"]) for row in rows.values()} == {
        ("acme-kastra", "1.2", "Loaded")
    }
    assert rows["kastra.tools", "acme-weather", "acme-kastra"]["module"] == "acme.tools:weather"


def test_what_is_built_in_is_listed_when_asked_for(site: Path) -> None:
    rows = listed(site, "--all")
    assert ("kastra.models", "openai", "kastra") in rows
    assert ("kastra.controllers", "builtin", "kastra") in rows
    assert ("kastra.commands", "apply", "kastra") in rows
    assert ("kastra.vectors", "builtin", "kastra") in rows


@pytest.mark.parametrize(
    ("group", "value", "reason"),
    [
        ("kastra.tools", "broken:f", "broken.py:2: ZeroDivisionError: division by zero"),
        ("kastra.models", "broken:f", "broken.py:2: ZeroDivisionError"),
        ("kastra.admission", "broken:f", "broken.py:2: ZeroDivisionError"),
        ("kastra.commands", "broken:f", "broken.py:2: ZeroDivisionError"),
        ("kastra.controllers", "broken", "broken.py:2: ZeroDivisionError"),
        ("kastra.controllers", "ends", "ends.py:3: SystemExit"),
        ("kastra.tools", "ends:f", "ends.py:3: SystemExit"),
        ("kastra.models", "nowhere:f", "ModuleNotFoundError: No module named 'nowhere'"),
        ("kastra.tools", "acme.tools:snow", "has no attribute 'snow'"),
        ("kastra.tools", "acme.tools:__name__", "is no function"),
        ("kastra.models", "acme.tools:__name__", "is no function that makes a model"),
        ("kastra.commands", "acme.tools:weather", "is no click.Command"),
        ("kastra.admission", "acme.tools:weather", "is no async function of (attributes)"),
        ("kastra.vectors", "acme.tools:__name__", "is no function that makes an index of (dimensions)"),
        ("kastra.controllers", "twice", "a controller named 'agent'"),
    ],
)
def test_one_that_can_not_be_used_says_why_and_where(site: Path, group: str, value: str, reason: str) -> None:
    twice = MODULES["acme/kinds/badge.py"].replace("@controller(Badge)", "@controller(Badge, name='agent')")
    modules = {**MODULES, "broken.py": BROKEN, "ends.py": "import sys\n\nsys.exit(3)\n", "twice.py": twice}
    install(site, "bad", modules, {group: {"one": value}})
    row = listed(site)[group, "one", "bad"]
    assert row["status"] == "Failed"
    assert reason in row["reason"]


def test_a_name_that_is_taken_is_refused(site: Path) -> None:
    install(site, "a-pack", MODULES, {"kastra.models": {"openai": "acme.models:create", "x": "acme.models:create"}})
    install(
        site,
        "b-pack",
        {},
        {"kastra.models": {"x": "acme.models:create"}, "kastra.commands": {"get": "acme.commands:hello"}},
    )
    rows = listed(site)
    assert 'the name "openai" is taken: it is built in' in rows["kastra.models", "openai", "a-pack"]["reason"]
    assert rows["kastra.models", "x", "a-pack"]["status"] == "Loaded"
    assert 'the name "x" is taken: it is of a-pack 1.2' in rows["kastra.models", "x", "b-pack"]["reason"]
    assert "built in" in rows["kastra.commands", "get", "b-pack"]["reason"]
    assert "hello" not in kastra(site, "get", "agents").stdout


def test_doctor_names_those_that_fail(site: Path) -> None:
    install(site, "bad", {"broken.py": BROKEN}, {"kastra.models": {"acme": "broken:create"}})
    done = kastra(site, "doctor")
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if "plugin acme" in line]
    assert line.startswith("error")
    assert "kastra.models of bad 1.2" in line
    assert "broken.py:2: ZeroDivisionError" in line


def test_apply_goes_on_without_the_packages_that_do_not_load(site: Path) -> None:
    points = {
        "kastra.controllers": {"acme": "broken"},
        "kastra.admission": {"acme": "broken:hook"},
        "kastra.models": {"acme": "broken:create"},
        "kastra.tools": {"acme": "broken:f"},
    }
    install(site, "bad", {"broken.py": BROKEN}, points)
    done = kastra(site, "apply", "-f", "-", stdin=f"{PROVIDER}---\n{TOOL.replace('NAME', 'acme')}")
    assert "modelprovider.mastra.ai/p created" in done.stdout
    assert 'plugin \\"acme\\" (kastra.controllers) of bad 1.2 does not load' in done.stderr.replace(
        '"acme"', '\\"acme\\"'
    )
    shown = json.loads(kastra(site, "get", "modelproviders,tools", "-o", "json").stdout)["items"]
    conditions = {item["kind"]: next(c for c in item["status"]["conditions"] if c["type"] == "Ready") for item in shown}
    assert (conditions["ModelProvider"]["status"], conditions["ModelProvider"]["reason"]) == ("False", "PluginFailed")
    assert "broken.py:2: ZeroDivisionError" in conditions["ModelProvider"]["message"]
    assert (conditions["Tool"]["status"], conditions["Tool"]["reason"]) == ("False", "NotImportable")
    assert "broken.py:2: ZeroDivisionError" in conditions["Tool"]["message"]


def test_a_tool_of_a_package_has_the_schema_of_its_function_and_runs(site: Path) -> None:
    install(site, "acme-kastra", MODULES, POINTS)
    assert kastra(site, "apply", "-f", "-", stdin=TOOL.replace("NAME", "acme-weather")).returncode == 0
    schema = kastra(site, "get", "tool", "t", "-o", "jsonpath={.status.inputSchema.required}").stdout
    assert schema == '["city"]'
    done = kastra(site, "run", "tool/t", "--quiet", "--input", '{"city": "Bergen"}')
    assert done.stdout == "rain in Bergen\n"


def test_a_tool_that_nobody_offers_is_named_with_what_was_probably_meant(site: Path) -> None:
    install(site, "acme-kastra", MODULES, POINTS)
    done = kastra(site, "apply", "-f", "-", stdin=TOOL.replace("NAME", "acme-wether"))
    assert done.returncode == 0
    message = kastra(site, "describe", "tool", "t").stdout
    assert "did you mean 'acme-weather'?" in message


def test_hooks_judge_and_change_what_is_written(site: Path) -> None:
    install(site, "acme-kastra", MODULES, POINTS)
    menu = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n"
    assert kastra(site, "apply", "-f", "-", stdin=menu.replace("NAME", "menu")).returncode == 0
    assert kastra(site, "get", "cm", "menu", "-o", "jsonpath={.metadata.labels.stamped}").stdout == "yes"
    refused = kastra(site, "apply", "-f", "-", stdin=menu.replace("NAME", "never"))
    assert refused.returncode == 1
    assert "never" in refused.stderr
    broken = kastra(site, "apply", "-f", "-", stdin=menu.replace("NAME", "breaks"))
    assert broken.returncode == 1
    assert 'plugin "acme-judge" (kastra.admission) of acme-kastra 1.2 failed: ' in broken.stderr
    assert "admission.py:8: KeyError: 'oops'" in broken.stderr


def test_a_verb_of_a_package_is_in_the_help_and_runs(site: Path) -> None:
    install(site, "acme-kastra", MODULES, POINTS)
    assert kastra(site, "hello").stdout == "hello\n"
    assert "hello" in kastra(site, "--help").stdout.partition("Verbs of installed packages")[2]
    assert 'did you mean "hello"?' in kastra(site, "hallo").stderr


def test_a_verb_that_does_not_load_is_an_error_of_its_own(site: Path) -> None:
    install(site, "bad", {"broken.py": BROKEN}, {"kastra.commands": {"hello": "broken:hello"}})
    done = kastra(site, "hello")
    assert done.returncode == 1
    assert "broken.py:2: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert kastra(site, "version").returncode == 0


def test_a_controller_that_asks_for_what_there_is_not_stops_nothing(site: Path) -> None:
    asks = MODULES["acme/kinds/badge.py"].replace("ctx: Context)", "ctx: Context, other: frozenset)")
    assert "frozenset" in asks
    install(site, "bad", {"asks.py": asks}, {"kastra.controllers": {"one": "asks"}})
    done = kastra(site, "apply", "-f", "-", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: menu}\n")
    assert done.returncode == 0, done.stderr
    assert "parameter 'other' of controller 'badge' can't be provided" in done.stderr


def test_a_controller_of_a_package_works_and_one_whose_setup_fails_stops_nothing(site: Path) -> None:
    fails = "def setup(manager):\n    raise RuntimeError('not here')\n"
    install(
        site,
        "acme-kastra",
        {**MODULES, "fails.py": fails},
        {**POINTS, "kastra.controllers": {"a": "fails", "b": "acme.kinds"}},
    )
    crd = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: badges.acme.com}
spec:
  group: acme.com
  scope: Namespaced
  names: {kind: Badge, plural: badges}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: acme.com/v1
kind: Badge
metadata: {name: b}
"""
    done = kastra(site, "apply", "-f", "-", stdin=crd)
    assert done.returncode == 0, done.stderr
    assert "fails.py:2: RuntimeError: not here" in done.stderr
    ready = kastra(site, "get", "badge", "b", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}")
    assert ready.stdout == "True"


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        (["version"], set()),
        (["get", "agents"], set()),
        (["--help"], set()),
        (["hello"], {"commands"}),
        (["validate", "manifests"], {"kinds"}),
        (["apply", "-f", "manifests"], {"kinds", "admission"}),
    ],
    ids=["version", "get", "help", "verb", "validate", "apply"],
)
def test_only_what_a_command_needs_is_imported(site: Path, arguments: list[str], imported: set[str]) -> None:
    install(site, "acme-kastra", MODULES, POINTS)
    (site.parent / "project" / "manifests").mkdir()
    (site.parent / "project" / "manifests" / "menu.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: menu}\n"
    )
    code = (
        "import sys\nfrom kastra.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print('IMPORTED', *sorted(n.split('.')[1] for n in sys.modules if n.startswith('acme.') and n.count('.') == 1))"
    )
    done = in_project(site, sys.executable, "-c", code, *arguments)
    assert set(done.stdout.rpartition("IMPORTED")[2].split()) == imported, done.stderr
