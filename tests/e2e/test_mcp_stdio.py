"""`kastra mcp` as the program that an MCP client starts, with the official SDK as that client."""

import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests.support import warm
from tests.unit.tool.mcp_servers import alive, until

GREETER = """\
apiVersion: mastra.ai/v1
kind: Agent
metadata:
  name: greeter
  labels: {mastra.ai/export: mcp}
spec:
  description: Greets people.
  instructions: Greet.
  model: {provider: scripted, parameters: {rules: [{reply: 'Hello, ${{ input.text }}'}]}}
"""


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_exported_agent_answers_a_client_that_starts_kastra(tmp_path: Path, mode: str) -> None:
    (tmp_path / "kastra.toml").write_text("")
    (tmp_path / "greeter.yaml").write_text(GREETER)
    apply = [warm.kastra(), "apply", "-f", "greeter.yaml"]
    subprocess.run(apply, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    command = StdioServerParameters(command=warm.kastra(), args=["mcp"], cwd=tmp_path)
    async with Client(command, mode=mode) as client:  # type: ignore[arg-type] # parametrised
        assert [tool.name for tool in (await client.list_tools()).tools] == ["agent_default_greeter"]
        result = await client.call_tool("agent_default_greeter", {"prompt": "Ada"})
        assert "Hello, Ada" in str(result.content)
        info = client.server_info
        assert info is not None
        assert info.name == "kastra"


async def test_it_ends_when_the_client_closes_its_end(tmp_path: Path) -> None:
    (tmp_path / "kastra.toml").write_text("")
    process = subprocess.Popen(
        [sys.executable, "-m", "kastra.cli.main", "mcp"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, errors = process.communicate(b"", timeout=30)
    assert (process.returncode, out) == (0, b"")
    assert b"Traceback" not in errors
    await until(lambda: not alive(process.pid))
