"""Fills the generated blocks of the documentation from what they describe, so that they can't drift.

    python docs/generate.py            rewrite the blocks
    python docs/generate.py --check    say which are stale, and exit 1 if any is

A page holds `<!-- generated: NAME [ARGUMENT] -->` and, below, `<!-- end of generated -->`; what stands between is replaced.
Sources: the CRDs in `crds/`, `kastra.config.Settings`, the command line, the metrics registry, docstrings, `docs/benchmarks.txt` (what
`make bench` printed), and the cases in `tests/conformance`. `tests/docs/test_generated.py` runs the check.
"""

import ast
import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
_BLOCK = re.compile(r"(<!-- generated: (?P<what>[^\n]+?) -->\n).*?(<!-- end of generated -->)", re.DOTALL)


# ---- kinds


def definition(kind: str) -> Mapping[str, Any]:
    """The CustomResourceDefinition of a kind."""
    from kastra.manifest.loader import load

    for manifest in load([ROOT / "crds"]).manifests:
        if manifest.object["spec"]["names"]["kind"] == kind:
            return manifest.object
    raise LookupError(f"there is no CRD of kind {kind}")


def summary(kind: str) -> str:
    """Names and subresources of a kind."""
    spec = definition(kind)["spec"]
    names, version = spec["names"], spec["versions"][0]
    subresources = ", ".join(f"`/{name}`" for name in version["subresources"])
    return (
        f"{version['schema']['openAPIV3Schema']['description']}\n\n"
        f"`apiVersion: {spec['group']}/{version['name']}`, plural `{names['plural']}`, "
        f"short {', '.join(f'`{name}`' for name in names['shortNames'])}, {spec['scope'].lower()}. "
        f"Subresources: {subresources}."
    )


def columns(kind: str) -> str:
    """The columns of `kastra get`."""
    rows = [
        (f"`{c['name']}`", "with `-o wide`" if c.get("priority") else "", c.get("description", ""))
        for c in definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
    ]
    return _table(("Column", "", "Shows"), rows)


def field_table(kind: str, part: str) -> str:
    """Every field below `spec` or `status`."""
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rows = []
    for path, node, required in _walk(schema["properties"][part], part):
        if path.startswith("status.conditions[]."):
            continue
        rows.append((f"`{path}`", _type(node), _description(node, required)))
    return _table(("Field", "Type", "Meaning"), rows)


def _walk(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    for name, child in (node.get("properties") or {}).items():
        below = f"{path}.{name}"
        yield below, child, name in (node.get("required") or ())
        while isinstance(child.get("items"), Mapping):
            child, below = child["items"], f"{below}[]"
        additional = child.get("additionalProperties")
        if isinstance(additional, Mapping):
            child, below = additional, f"{below}.*"
        yield from _walk(child, below)


def _type(node: Mapping[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = node.get("type")
    if kind is None:
        return "any"
    if kind == "array":
        return f"list of {_type(node.get('items') or {})}"
    if kind == "object" and isinstance(node.get("additionalProperties"), Mapping):
        return f"map to {_type(node['additionalProperties'])}"
    return str(kind)


def _description(node: Mapping[str, Any], required: bool) -> str:
    text = " ".join(str(node.get("description", "")).split())
    notes = ["Required."] if required else []
    if "enum" in node:
        notes.append("One of " + ", ".join(f"`{value}`" for value in node["enum"]) + ".")
    if "default" in node:
        notes.append(f"Default `{_literal(node['default'])}`.")
    for keyword, words in (("minimum", "At least"), ("maximum", "At most")):
        if keyword in node:
            notes.append(f"{words} {node[keyword]}.")
    return " ".join([text, *notes]).strip()


def _literal(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def kinds() -> str:
    """All kinds with what they are."""
    rows = []
    for kind in _kinds():
        spec = definition(kind)["spec"]
        scope = "" if spec["scope"] == "Namespaced" else " Cluster-wide."
        text = spec["versions"][0]["schema"]["openAPIV3Schema"]["description"]
        rows.append((f"[{kind}]({kind.lower()}.md)", f"{text}{scope}"))
    return _table(("Kind", "What it is"), rows)


def model_matrix() -> str:
    """What is done with which type of model provider."""
    from kastra.model.features import matrix

    return matrix()


def kind_links() -> str:
    """A link to the page of each kind."""
    return ", ".join(f"[{kind}](kinds/{kind.lower()}.md)" for kind in _kinds()) + "."


def _kinds() -> list[str]:
    from kastra.manifest.loader import load

    return sorted(manifest.object["spec"]["names"]["kind"] for manifest in load([ROOT / "crds"]).manifests)


# ---- settings, command line, metrics, failpoints


def settings() -> str:
    """Every setting, from the docstring of Settings."""
    from kastra.config import Settings

    text = inspect.getdoc(Settings) or ""
    described = dict(re.findall(r"^    (\w+): (.+(?:\n        .+)*)", text, re.MULTILINE))
    rows = []
    for setting in fields(Settings):
        default = getattr(Settings(), setting.name)
        if setting.name == "project":
            shown = "the nearest folder upwards with `kastra.toml` or `.kastra/`"
        elif isinstance(default, tuple):
            shown = ", ".join(f"`{item}`" for item in default) or "none"
        else:
            shown = f"`{default}`" if str(default) else "none"
        meaning = " ".join(described[setting.name].split())
        rows.append((f"`{setting.name}`", f"`KASTRA_{setting.name.upper()}`", shown, meaning))
    return _table(("In `kastra.toml`", "In the environment", "Default", "Meaning"), rows)


def verbs() -> str:
    """Every verb with its options."""
    import click

    from kastra.cli.main import cli

    context = click.Context(cli, info_name="kastra", **cli.context_settings)
    parts = [_options(cli, "Options of every verb")]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        usage = command.collect_usage_pieces(click.Context(command, parent=context, info_name=name))
        help_ = inspect.cleandoc(command.help or "").replace("\b\n", "")
        first, _, rest = help_.partition("\n\n")
        body = f"\n\n```text\n{rest.strip()}\n```" if rest.strip() else ""
        parts.append(f"### {name}\n\n`kastra {' '.join([name, *usage])}`\n\n{first}{body}\n\n{_options(command)}")
    return "\n\n".join(part.strip() for part in parts)


def _options(command: Any, title: str = "") -> str:
    import click

    from kastra.cli.main import cli

    # The names of --help are the whole program's, and click remembers them with the command from the first look on.
    context = click.Context(command, help_option_names=cli.context_settings["help_option_names"])
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            rows.append((f"`{record[0].replace('|', ', ')}`", record[1]))
    table = _table(("Option", "Meaning"), rows)
    return f"### {title}\n\n{table}" if title else table


def python_names(module: str) -> str:
    """The public names of a module with what their docstrings say."""
    found = importlib.import_module(module)
    public = sorted((name for name in found.__all__ if not name.startswith("_")), key=str.lower)
    return "\n\n".join(_documented(name, getattr(found, name)) for name in public)


def _documented(name: str, thing: Any) -> str:
    parts = [f"### {name}", f"```text\n{name}{_signature(thing)}\n```", _markdown(inspect.getdoc(thing) or "")]
    if inspect.isclass(thing):
        own = [base for base in thing.__mro__ if base.__module__.partition(".")[0] == "kastra"]
        members = {key: value for base in reversed(own) for key, value in vars(base).items() if not key.startswith("_")}
        rows = []
        for key, value in members.items():
            value = inspect.unwrap(value.__func__) if isinstance(value, (classmethod, staticmethod)) else value
            text = inspect.getdoc(value) if inspect.isfunction(value) or isinstance(value, property) else None
            if text:
                call = f"{key}{_signature(value)}" if inspect.isfunction(value) else key
                first = text.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
                rows.append((f"`{call}`".replace("|", "\\|"), first))
        parts += [_table(("Member", "What it does"), rows)] if rows else []
    return "\n\n".join(part for part in parts if part)


def _signature(thing: Any) -> str:
    """The names of what is given; types are in the source, and in the editor."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return "()"
    bare = [
        parameter.replace(
            annotation=inspect.Parameter.empty,
            # What has no short text of its own: a function, a factory.
            default=...
            if "<" in repr(parameter.default) and parameter.default is not parameter.empty
            else parameter.default,
        )
        for parameter in parameters
        if parameter.name != "self" and not parameter.name.startswith("_")
    ]
    return str(inspect.Signature(bare)).replace("Ellipsis", "...")


def _markdown(doc: str) -> str:
    """A docstring, with its sections as lists."""
    lines: list[str] = []
    section = False
    for line in doc.splitlines():
        if line in ("Args:", "Attributes:", "Raises:", "Returns:"):
            section = True
            lines.append(f"**{line[:-1]}**\n")
        elif section and re.match(r"    \S", line):
            name, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{name}`: {rest}" if colon else f"- {line.strip()}")
        elif section and line.startswith("     "):
            lines[-1] += f" {line.strip()}"
        else:
            section = section and not line.strip()
            lines.append(f"```text\n{line.strip()}\n```" if line.startswith("    ") else line)
    return "\n".join(lines).replace("```\n```text\n", "").strip()


def metrics() -> str:
    """Every metric, asked of a control plane that has them all."""
    rows = asyncio.run(_catalogue())
    return _table(
        ("Metric", "Type", "Labels", "Meaning"),
        [(f"`{name}`", kind, ", ".join(f"`{x}`" for x in labels), help_) for name, kind, help_, labels in sorted(rows)],
    )


async def _catalogue() -> list[tuple[str, str, str, tuple[str, ...]]]:
    from kastra.app.composition import compose
    from kastra.config import Settings

    async with compose(Settings(controllers=()), path=":memory:") as parts:
        assert parts.manager is not None
        return parts.manager.metrics.catalogue()


def failpoints() -> str:
    """Every failpoint in the code."""
    found = sorted({name for source in _sources() for name in _failpoints_of(source)})
    return "\n".join(f"- `{name}`" for name in found)


def _sources() -> list[Path]:
    return sorted([*(ROOT / "kastra").rglob("*.py"), *(ROOT / "controllers").glob("*.py")])


def _failpoints_of(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "failpoint"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


# ---- the built-in toolkit


def builtin_tools() -> str:
    """Every built-in tool, group by group."""
    from kastra.tool.toolkit.body import signature
    from kastra.tool.toolkit.catalogue import GROUPS, named

    parts = []
    for group, meaning in GROUPS.items():
        rows = []
        for tool in named(group):
            schema = signature(tool.name).schema
            required = schema.get("required", ())
            names = [f"`{name}`" if name in required else f"`{name}?`" for name in schema["properties"]]
            effect = tool.effect.title + ("" if tool.effect.idempotent else ", again if repeated")
            rows.append((f"`{tool.name}`", tool.description, ", ".join(names) or "none", effect))
        settings = sorted({setting for tool in named(group) for setting in tool.settings})
        heeded = f" Settings: {', '.join(f'`{setting}`' for setting in settings)}." if settings else ""
        table = _table(("Tool", "What it does", "Arguments (`?`: may be left out)", "Effect"), rows)
        parts.append(f"### {group}\n\n{meaning}{heeded}\n\n{table}")
    return "\n\n".join(parts)


def builtin_count() -> str:
    """How many there are."""
    from kastra.tool.toolkit.catalogue import GROUPS, builtins

    return f"There are {len(builtins())} tools in {len(GROUPS)} groups."


# ---- conformance


def conformance(tier: str) -> str:
    """The cases of a tier: which test runs it, or why none does."""
    catalogue = _catalogue_of_cases()
    run_by, skipped = catalogue.run_by(), catalogue.skipped()
    rows = []
    for case in catalogue.cases():
        if case.tier == int(tier):
            tests = ", ".join(f"`{test.removeprefix('tests/conformance/')}`" for test in run_by.get(case.name, ()))
            rows.append((case.name, tests or f"Not run: {skipped[case.name]}.", case.instead))
    return _table(("Case", "Run by", "With"), rows)


def conformance_summary() -> str:
    """How many cases of each tier are run."""
    catalogue = _catalogue_of_cases()
    run_by = catalogue.run_by()
    rows = []
    for tier in sorted({case.tier for case in catalogue.cases()}):
        names = [case.name for case in catalogue.cases() if case.tier == tier]
        rows.append((str(tier), str(len(names)), str(sum(name in run_by for name in names))))
    return _table(("Tier", "Cases", "Run"), rows)


def _catalogue_of_cases() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("conformance", ROOT / "tests" / "conformance" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# ---- benchmarks


def benchmarks() -> str:
    """What `make bench` printed when it was last written to docs/benchmarks.txt."""
    return f"```text\n{(DOCS / 'benchmarks.txt').read_text(encoding='utf-8').strip()}\n```"


# ---- pages


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


BLOCKS: dict[str, Callable[..., str]] = {
    "model-matrix": model_matrix,
    "summary": summary,
    "columns": columns,
    "fields": field_table,
    "kinds": kinds,
    "kind-links": kind_links,
    "settings": settings,
    "verbs": verbs,
    "metrics": metrics,
    "python-names": python_names,
    "failpoints": failpoints,
    "benchmarks": benchmarks,
    "builtin-count": builtin_count,
    "builtin-tools": builtin_tools,
    "conformance": conformance,
    "conformance-summary": conformance_summary,
}


def generated(page: str) -> str:
    """The page with its blocks filled anew."""

    def fill(match: re.Match[str]) -> str:
        name, *arguments = match["what"].split()
        return f"{match[1]}\n{BLOCKS[name](*arguments)}\n\n{match[3]}"

    return _BLOCK.sub(fill, page)


def main(arguments: list[str]) -> int:
    """Rewrite or check every page."""
    stale = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        fresh = generated(text)
        if fresh != text:
            stale.append(page)
            if "--check" not in arguments:
                page.write_text(fresh, encoding="utf-8")
    for page in stale:
        sys.stdout.write(f"{page.relative_to(ROOT)}: {'stale' if '--check' in arguments else 'rewritten'}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
