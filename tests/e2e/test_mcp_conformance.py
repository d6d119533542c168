"""The public MCP conformance suite, for what docs/mcp.md claims. Runs with KASTRA_MCP_CONFORMANCE=1 where there is npx."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Server, start_server, stop_server

PACKAGE = "@modelcontextprotocol/conformance@0.1.16"
HERE = Path(__file__).resolve().parent
CLIENT = HERE.parent / "support" / "mcp" / "conformance_client.py"
SERVER_SCENARIOS = (
    "server-initialize",
    "ping",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "tools-call-with-progress",
    "server-sse-multiple-streams",
    "json-schema-2020-12",
)
CLIENT_SCENARIOS = ("initialize", "tools_call", "sse-retry")

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("KASTRA_MCP_CONFORMANCE") != "1" or shutil.which("npx") is None,
        reason="needs KASTRA_MCP_CONFORMANCE=1 and npx: it downloads the suite and Node 22 from the npm registry",
    ),
    pytest.mark.timeout(300),
]


def conformance(arguments: str) -> str:
    """What the suite prints."""
    command = ["npx", "-y", "-p", "node@22", "-p", PACKAGE, "-c", f"conformance {arguments}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "kastra.toml").write_text("")
    server: Server = start_server(folder, "--insecure-http", "127.0.0.1:0")
    try:
        command = [sys.executable, "-m", "kastra.cli.main", "apply", "-f", str(HERE / "mcp_conformance.yaml")]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        found = re.search(r"http://127\.0\.0\.1:\d+", server.output)
        assert found is not None, server.output
        yield f"{found[0]}/mcp"
    finally:
        stop_server(server)


@pytest.mark.parametrize("scenario", SERVER_SCENARIOS)
def test_a_scenario_for_servers_passes(url: str, scenario: str) -> None:
    told = conformance(f"server --url {url} --scenario {scenario}")
    assert re.search(r"[1-9]\d*/\d+, 0 failed|[1-9]\d* passed, 0 failed", told), told


@pytest.mark.parametrize("scenario", CLIENT_SCENARIOS)
def test_a_scenario_for_clients_passes(scenario: str) -> None:
    told = conformance(f"client --command '{sys.executable} {CLIENT}' --scenario {scenario}")
    assert "OVERALL: PASSED" in told, told
