"""What `kastra dev` prints: one line per event, nothing twice, and nothing that a terminal would act on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kastra.app.development import Round
from kastra.cli.dev_view import DevView
from tests.unit.app.developing import CONFIG, Project, developing

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
TOOL = """\
apiVersion: mastra.ai/v1
kind: Tool
metadata: {{name: {name}}}
spec: {{python: {{inline: "def f() -> int: return {value}"}}}}
"""
BROKEN = "apiVersion: mastra.ai/v1\nkind: Tool\nmetadata: {name: a}\nspec: {pyton: 1}\n"


class Screen:
    """A view and what it wrote."""

    def __init__(self, *, terminal: bool = False, color: bool = False, width: int = 60) -> None:
        self.text = ""
        self.view = DevView(self._write, lambda: NOON, terminal=terminal, color=color, width=lambda: width)

    def _write(self, text: str) -> None:
        self.text += text

    def new(self) -> str:
        """What was written since the last time."""
        text, self.text = self.text, ""
        return text

    def show(self, done: Round, project: Project) -> str:
        """What a round looks like, without its times."""
        done.seconds = (0.012, 0.034)
        self.view.round(done, project.development)
        return self.new()


@pytest.fixture
async def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Project]:
    monkeypatch.chdir(tmp_path)
    async with developing(tmp_path) as made:
        yield made


async def test_each_object_has_a_line_with_what_was_done_and_whether_it_is_ready(project: Project) -> None:
    screen = Screen()
    text = TOOL.format(name="a", value=1) + "---\n" + CONFIG.format(name="c", text="x")
    assert screen.show(await project.save("manifests/a.yaml", text), project).splitlines() == [
        "12:00:00  configmap/c                     created  34ms",
        "12:00:00  tool/a                          created      Ready  34ms",
        "12:00:00  ready                           Tool 1/1",
    ]
    assert screen.show(await project.save("manifests/a.yaml", text), project).splitlines() == [
        "12:00:00  manifests/a.yaml                2 unchanged  34ms"
    ]
    assert screen.show(await project.remove("manifests/a.yaml"), project).splitlines() == [
        "12:00:00  tool/a                          deleted  12ms",
        "12:00:00  configmap/c                     deleted  12ms",
        "12:00:00  ready",
    ]


async def test_an_error_is_shown_when_it_is_new_and_when_somebody_tried_to_mend_it(project: Project) -> None:
    screen = Screen()
    first = screen.show(await project.save("manifests/a.yaml", BROKEN), project).splitlines()
    assert first[0] == ('manifests/a.yaml:4:8 error spec.pyton: unknown field "spec.pyton"')
    assert first[-1] == "12:00:00  ready                           1 error"
    other = screen.show(await project.save("manifests/c.yaml", CONFIG.format(name="c", text="x")), project)
    assert "error spec" not in other
    again = screen.show(await project.change(project.folder / "manifests" / "a.yaml"), project)
    assert "error spec" in again
    mended = screen.show(await project.save("manifests/a.yaml", TOOL.format(name="a", value=1)), project).splitlines()
    assert mended == [
        "12:00:00  tool/a                          created      Ready  34ms",
        "12:00:00  manifests/a.yaml                mended",
        "12:00:00  ready                           Tool 1/1",
    ]


async def test_on_a_terminal_an_error_comes_with_its_line_and_the_last_line_is_rewritten(project: Project) -> None:
    screen = Screen(terminal=True, width=50)
    screen.view.header("https://127.0.0.1:6443", ["serving"])
    assert screen.new() == "\r\x1b[2Kserving\nhttps://127.0.0.1:6443"
    written = screen.show(await project.save("manifests/a.yaml", BROKEN), project)
    assert written.startswith("\r\x1b[2Kmanifests/a.yaml:4:8 error ")
    assert "   4 | spec: {pyton: 1}" in written
    assert written.endswith("\nhttps://127.0.0.1:6443  1 error")


async def test_the_last_line_fits_however_narrow_the_terminal(project: Project) -> None:
    screen = Screen(terminal=True, width=20)
    screen.view.header("https://127.0.0.1:6443", [])
    assert screen.new() == "\r\x1b[2Khttps://127.0.0.1:6"


async def test_colours_are_used_only_where_they_are_wanted(project: Project) -> None:
    done = await project.save("manifests/a.yaml", TOOL.format(name="a", value=1))
    assert "\x1b[32mcreated      Ready\x1b[0m" in Screen(terminal=True, color=True).show(done, project)
    assert "\x1b[3" not in Screen(terminal=True).show(done, project)


async def test_a_failing_reconcile_is_told_once_and_never_reaches_the_terminal_as_a_command(project: Project) -> None:
    screen = Screen()
    screen.show(await project.change(), project)
    outcome = {
        "controller": "tool", "kind": "Tool.mastra.ai", "namespace": "default", "name": "a", "trigger": "x",
        "outcome": "error", "duration": 0.002, "requeueAfter": 1.0, "message": "\x1b[2Jboom",
    }  # fmt: skip
    screen.view.outcome(outcome, project.development)
    screen.view.outcome(outcome, project.development)
    assert screen.new() == "12:00:00  tool/a                          reconcile error: ^[[2Jboom  2ms\n"


async def test_an_object_that_changes_by_itself_has_a_line(project: Project) -> None:
    screen = Screen()
    screen.show(await project.save("manifests/a.yaml", TOOL.format(name="a", value=1)), project)
    client = project.development.kastra.client
    found = await project.get("tools", "a")
    assert found is not None
    await client.patch(found.ref, {"spec": {"suspend": True}})
    await project.development.kastra.settle(10)
    outcome = {
        "controller": "tool", "kind": "Tool.mastra.ai", "namespace": "default", "name": "a", "trigger": "x",
        "outcome": "success", "duration": 0.002, "requeueAfter": None,
    }  # fmt: skip
    screen.view.outcome(outcome, project.development)
    assert screen.new().startswith("12:00:00  tool/a                          not Ready  Suspended")
