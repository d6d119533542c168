"""`convert`, which migrates as the command line does: with today's kinds, and the checks of `kastra validate`."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import yaml

from kastra.app import peek
from kastra.app.composition import discover_controllers
from kastra.app.validation import Validator
from kastra.config import Settings
from kastra.manifest.encode import to_yaml_documents
from kastra.migrate.convert import Migration, migrate

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = Path(__file__).parent / "golden"


class Today(NamedTuple):
    """What is valid today, and which fields there are."""

    check: Callable[..., Any]
    fields: dict[str, frozenset[str]]


def today_in(folder: Path) -> Today:
    """The built-in kinds."""

    async def read() -> Today:
        async with peek(path=folder / "absent.db") as client:
            validators = discover_controllers(Settings(project=folder)).validators
            fields = {
                r.kind: frozenset(r.schema["properties"]["spec"].get("properties") or ())
                for r in client.scheme
                if r.group == "mastra.ai" and r.schema
            }
            return Today(Validator(client.scheme, validators).check, fields)

    return anyio.run(read)


@pytest.fixture(scope="session")
def today(tmp_path_factory: pytest.TempPathFactory) -> Today:
    return today_in(tmp_path_factory.mktemp("today"))


class Convert:
    """Migrates paths, or a text as if it were piped in."""

    def __init__(self, today: Today) -> None:
        self._today = today

    def __call__(self, *paths: str | Path, text: str = "", write_secrets: bool = False) -> Migration:
        given = [str(path) for path in paths] or ["-"]
        return migrate(
            given,
            fields=self._today.fields,
            check=self._today.check,
            stdin=BytesIO(text.encode()),
            write_secrets=write_secrets,
        )

    def objects(self, text: str) -> dict[str, Any]:
        """What a text becomes, by `Kind/name`."""
        made = [draft.to_object() for draft in self(text=text).objects]
        return {f"{obj['kind']}/{obj['metadata']['name']}": obj for obj in made}

    def findings(self, text: str) -> list[str]:
        """The lines of the report on a text."""
        return self(text=text).report.lines()

    def step(self, step: str, *others: str) -> dict[str, Any]:
        """What the last of these steps, each in YAML's flow style, becomes in a workflow."""
        steps = "".join(f"\n  - {one}" for one in (*others, step))
        spec = self.objects(f"kind: Workflow\nname: w\nspec:\n  steps:{steps}\n")["Workflow/w"]["spec"]
        return spec["steps"][-1]


@pytest.fixture(scope="session")
def convert(today: Today) -> Convert:
    return Convert(today)


def golden_text(found: Migration) -> str:
    """A migration as one text: its objects, then its report."""
    report = "".join(f"# {line}\n" for line in found.report.lines()).replace(f"{FIXTURES}/", "")
    return (
        to_yaml_documents(draft.to_object() for draft in found.objects)
        + "---\n"
        + (report or "# everything was converted\n")
    )


def load_golden(path: Path) -> list[dict[str, Any]]:
    """The objects of a golden file."""
    return [obj for obj in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) if obj]
