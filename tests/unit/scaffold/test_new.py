"""`kastra new` adds what runs at once, and never what hides something else."""

from pathlib import Path

import pytest

from kastra.scaffold.naming import KindNames, plural_of
from kastra.testing import ControlPlane

from .conftest import Command


async def test_a_new_kind_is_ready_has_a_view_and_owns_what_it_makes(project: Path, kastra: Command) -> None:
    code, out, err = kastra("new", "kind", "DataSource", "--group", "example.com")
    assert code == 0, err
    assert [line.removesuffix(" created") for line in out.splitlines() if line.endswith(" created")] == [
        "controllers/data_source.py",
        "controllers/views/__init__.py",
        "controllers/views/data_source.py",
        "crds/datasources.yaml",
        "manifests/my-datasource.yaml",
        "tests/test_data_source.py",
    ]
    async with ControlPlane(project) as env:
        await env.apply("crds", "manifests")
        await env.settle()
        found = await env.get(env.manager.view("DataSource"), "my-datasource")
        assert found.condition("Ready").is_true
        assert [child.kind for child in await env.owned_by(found)] == ["ConfigMap"]


async def test_a_new_cluster_scoped_kind_is_ready(project: Path, kastra: Command) -> None:
    assert kastra("new", "kind", "Zone", "--group", "example.com", "--cluster")[0] == 0
    async with ControlPlane(project) as env:
        await env.apply("crds", "manifests")
        await env.settle()
        assert (await env.get("Zone", "my-zone")).is_condition_true("Ready")


async def test_new_objects_are_ready(project: Path, kastra: Command) -> None:
    for what in ("tool", "agent", "workflow", "network", "model"):
        code, out, err = kastra("new", what, f"a-{what}")
        assert code == 0, err
        assert "kastra apply -f manifests --wait" in out
    async with ControlPlane(project) as env:
        await env.apply("manifests")
        await env.settle()
        for kind in ("Tool", "Agent", "Workflow", "Network", "Model"):
            assert (await env.get(kind, f"a-{kind.lower()}")).is_condition_true("Ready")
        assert (await env.run("tool/a-tool", {"text": "one two"})).output == 2
        assert (await env.run("workflow/a-workflow", {"text": "hi"})).output == {"answer": "HI!"}
        assert (await env.run("agent/a-agent", "hi")).output == "You said: hi"
        assert "hi" in (await env.run("network/a-network", "hi")).output


def test_the_group_of_the_other_kinds_is_taken_unless_there_are_several(project: Path, kastra: Command) -> None:
    assert "--group is needed" in kastra("new", "kind", "Lamp")[2]
    assert kastra("new", "kind", "Lamp", "--group", "example.com")[0] == 0
    assert kastra("new", "kind", "Bulb")[0] == 0
    assert "group: example.com" in (project / "crds" / "bulbs.yaml").read_text()
    assert kastra("new", "kind", "Wire", "--group", "example.org")[0] == 0
    assert "the project has example.com, example.org" in kastra("new", "kind", "Plug")[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("Tool", "--group", "example.com"), 'there is a kind Tool.mastra.ai that is called "tool", too'),
        (("Instrument", "--group", "example.com", "--plural", "tools"), 'is called "tools", too'),
        (("AG", "--group", "example.com"), 'there is a kind Agent.mastra.ai that is called "ag", too'),
        (("Cm", "--group", "example.com"), 'there is a kind ConfigMap that is called "cm", too'),
        (("Lamp", "--group", "example.com"), "crds/lamps.yaml: defines Lamp.example.com already"),
        (("Lamp", "--group", "example.org"), 'crds/lamps.yaml: Lamp.example.com is called "lamp", too'),
        (
            ("data-source", "--group", "example.com"),
            "write it in CamelCase with letters and digits, such as DataSource",
        ),
        (("Bulb", "--group", "mastra.ai"), "use a domain of your own"),
        (("Bulb", "--group", "x.k8s.io"), "is reserved for Kubernetes"),
        (("Bulb", "--group", "Example"), "isn't a domain"),
        (("Bulb", "--group", "example.com", "--plural", "Bulbs"), "must be lower case letters"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_a_kind_that_could_not_be_told_from_another_is_refused(
    project: Path, kastra: Command, arguments: tuple[str, ...], says: str
) -> None:
    assert kastra("new", "kind", "Lamp", "--group", "example.com")[0] == 0
    before = sorted(project.rglob("*.*"))
    code, _, err = kastra("new", "kind", *arguments)
    assert code == 1
    assert says in err
    assert sorted(project.rglob("*.*")) == before


def test_an_object_that_is_there_is_refused_with_its_place(project: Path, kastra: Command) -> None:
    (project / "manifests").mkdir()
    (project / "manifests" / "all.yaml").write_text(
        "apiVersion: mastra.ai/v1\nkind: Agent\nmetadata:\n  name: helper\nspec: {instructions: Help.}\n"
    )
    code, _, err = kastra("new", "agent", "helper")
    assert (code, "manifests/all.yaml:4: there is a Agent helper already" in err) == (1, True)


def test_a_file_in_the_way_is_named_and_kept(project: Path, kastra: Command) -> None:
    (project / "tools").mkdir()
    (project / "tools" / "word_count.py").write_text("mine")
    code, _, err = kastra("new", "tool", "word-count")
    assert (code, "tools/word_count.py" in err) == (1, True)
    assert [path.name for path in project.rglob("*word*")] == ["word_count.py"]


@pytest.mark.parametrize("name", ["Word", "word_count", "a.b", "-a", "a-", "../x", "x" * 64])
def test_a_name_that_no_object_can_have_is_refused(kastra: Command, name: str) -> None:
    code, _, err = kastra("new", "tool", "--", name)
    assert code == 1
    assert "can't be the name of an object" in err


@pytest.mark.parametrize("name", ["class", "1st", "true", "007"])
async def test_names_that_python_or_yaml_would_misread_work(project: Path, kastra: Command, name: str) -> None:
    assert kastra("new", "tool", name)[0] == 0
    async with ControlPlane(project) as env:
        await env.apply("manifests")
        await env.settle()
        assert (await env.get("Tool", name)).is_condition_true("Ready")


def test_flags_of_kinds_are_refused_elsewhere(kastra: Command) -> None:
    code, _, err = kastra("new", "tool", "x", "--cluster")
    assert (code, "--cluster is for kinds only" in err) == (2, True)


def test_controllers_are_put_where_the_project_has_them(project: Path, kastra: Command) -> None:
    (project / "kastra.toml").write_text('controllers = ["src/control"]\n')
    assert kastra("new", "kind", "Lamp", "--group", "example.com")[0] == 0
    assert (project / "src" / "control" / "lamp.py").is_file()
    assert (project / "src" / "control" / "views" / "lamp.py").is_file()


@pytest.mark.parametrize(
    ("word", "plural"),
    [
        ("glossary", "glossaries"),
        ("key", "keys"),
        ("box", "boxes"),
        ("datasource", "datasources"),
        ("branch", "branches"),
    ],
)
def test_plurals_are_the_regular_ones(word: str, plural: str) -> None:
    assert plural_of(word) == plural


@pytest.mark.parametrize(
    ("kind", "module"),
    [("DataSource", "data_source"), ("HTTPRoute", "http_route"), ("Import", "import_"), ("V2Ray", "v2_ray")],
)
def test_file_names_follow_from_kinds(kind: str, module: str) -> None:
    assert KindNames.derive(kind, "example.com").module == module
