"""The documentation says everything: generated tables are fresh, and nothing that users can meet is missing."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from .pages import ROOT

DOCS = ROOT / "docs"
KINDS = sorted(
    re.findall(r"^    kind: (\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE)[0]
    for file in (ROOT / "crds").glob("*.yaml")
)
_EVENT_TYPES = ("Normal", "Warning")
SAYING = {
    "condition", "event", "not_ready", "ready", "refused", "waiting", "Missing", "_set", "_set_if_new", "_end", "_report", "Unusable", "Obstacle",
    "Progress",
}  # fmt: skip
"""Functions by which controllers and the runtime say conditions, reasons and events."""


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def everything() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_generated_blocks_are_what_they_would_be_now(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if "<!-- generated:" in text:
        assert generator().generated(text) == text, "stale: run `python docs/generate.py`"


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_kind_has_all_its_fields_and_columns_and_a_manifest(kind: str) -> None:
    page = (DOCS / "kinds" / f"{kind.lower()}.md").read_text(encoding="utf-8")
    for block in (f"summary {kind}", f"columns {kind}", f"fields {kind} spec", f"fields {kind} status"):
        assert f"<!-- generated: {block} -->" in page
    assert re.search(rf"```yaml\n(?:.*\n)*?kind: {kind}\n", page)


def test_every_kind_has_a_page() -> None:
    pages = {file.stem for file in (DOCS / "kinds").glob("*.md")} - {"README"}
    assert pages == {kind.lower() for kind in KINDS}


def test_every_condition_reason_and_event_is_explained() -> None:
    explained = set(re.findall(r"`([A-Z][A-Za-z]+)`", (DOCS / "conditions.md").read_text(encoding="utf-8")))
    said = {word: where for source in sources() for word, where in words(source)}
    assert {f"{where}: {word}" for word, where in said.items() if word not in explained} == set()
    assert len(said) > 30


def sources() -> list[Path]:
    runtime = (ROOT / "kastra" / "runtime").rglob("*.py")
    return [*(ROOT / "controllers").glob("*.py"), *runtime, ROOT / "kastra" / "tool" / "check.py"]


def words(source: Path) -> Iterator[tuple[str, str]]:
    """What the calls of a module say: PascalCase literals among their arguments, also within a conditional."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in SAYING:
            continue
        for argument in node.args:
            literals = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
            for literal in literals:
                text = literal.value if isinstance(literal, ast.Constant) else None
                if isinstance(text, str) and re.fullmatch(r"(?:[A-Z][a-z]+)+", text) and text not in _EVENT_TYPES:
                    yield text, f"{source.name}:{node.lineno}"


def test_every_setting_and_environment_variable_is_documented() -> None:
    operations = (DOCS / "operations.md").read_text(encoding="utf-8")
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "kastra").rglob("*.py"))
    named = set(re.findall(r"\bKASTRA_[A-Z][A-Z_]*[A-Z]\b", code))
    assert {name for name in named if f"`{name}`" not in operations} == set()


def test_every_verb_and_option_is_documented() -> None:
    import click

    from kastra.cli.main import cli

    reference = (DOCS / "cli.md").read_text(encoding="utf-8")
    context = click.Context(cli)
    missing = []
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        if f"### {verb}\n" not in reference:
            missing.append(verb)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                missing += [f"{verb} {option}" for option in parameter.opts if option not in reference]
    assert missing == []


def test_every_provider_type_is_documented() -> None:
    from kastra.model.providers import provider_types

    page = (DOCS / "kinds" / "modelprovider.md").read_text(encoding="utf-8")
    assert [name for name in provider_types() if f"`{name}`" not in page] == []


def test_every_error_type_of_steps_is_documented() -> None:
    from kastra.engine.retry import NEVER

    assert [name for name in NEVER if f"`{name}`" not in everything()] == []


def test_the_pages_name_no_file_that_is_not_there() -> None:
    missing = []
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for name in re.findall(
            r"`((?:kastra|controllers|crds|tests|docs|manifests|bench)/[\w./-]+)`", page.read_text()
        ):
            if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists():
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert missing == []


def test_every_field_without_effect_is_among_the_limits() -> None:
    """The lists of what is accepted and not acted on, read from the code that reports it."""
    limits = (DOCS / "limits.md").read_text(encoding="utf-8")
    named = set[str]()
    for source in [*(ROOT / "controllers").glob("*.py"), ROOT / "kastra" / "engine" / "compiler_checks.py"]:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if any(name == "_NOT_ACTED_ON" or name.startswith("_UNSUPPORTED") for name in names):
                value = node.value  # type: ignore[attr-defined]
                listed = value.values if isinstance(value, ast.Dict) else ast.walk(value)
                named |= {item.value for item in listed if isinstance(item, ast.Constant)}
    assert {name for name in named if not re.search(rf"`(?:\w+\.)?{name}\b", limits)} == set()
    assert len(named) > 3
