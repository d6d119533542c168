"""The command line stays quick because it imports only what a verb needs."""

import subprocess
import sys
from typing import Any

import pytest

Kastra = Any

HEAVY = ("pydantic", "httpx2", "jsonschema", "starlette", "numpy", "cel_expr_python", "cryptography", "prompt_toolkit")


def imported(code: str, *arguments: str) -> set[str]:
    """The top-level packages that are loaded after running `code` in a fresh interpreter."""
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "module",
    [
        "main",
        "get",
        "version",
        "describe",
        "apply",
        "run",
        "chat",
        "conversing",
        "watch",
        "dev",
        "controllers",
        "plugins",
        "init",
        "new",
        "generate",
    ],
)
def test_importing_a_verb_loads_nothing_heavy(module: str) -> None:
    assert not imported(f"import kastra.cli.{module}") & set(HEAVY)


def test_importing_the_entry_point_loads_neither_yaml_nor_an_event_loop() -> None:
    assert not imported("import kastra.cli.main") & {"yaml", "asyncio", "anyio"}


def test_printing_the_version_loads_neither_yaml_nor_an_event_loop() -> None:
    code = "from kastra.cli.main import main\ntry: main(['version'])\nexcept SystemExit: pass"
    assert not imported(code) & {*HEAVY, "yaml", "asyncio", "anyio"}


def test_the_client_of_a_server_loads_nothing_heavy_no_store_and_no_server() -> None:
    loaded = imported("import kastra.app.clusters")
    assert not loaded & {*HEAVY, "uvicorn", "libsql", "sqlite3", "yaml", "re2", "starlette"}


def test_listing_objects_of_a_store_loads_no_views_no_network_and_no_server(kitchen: Kastra) -> None:
    code = (
        "from kastra.cli.main import main\n"
        "try: main(['--data', sys.argv[1], 'get', 'agents', '-A'])\nexcept SystemExit: pass"
    )
    loaded = imported(code, str(kitchen.folder / ".kastra"))
    assert not loaded & {"pydantic", "httpx2", "jsonschema", "starlette", "numpy"}
