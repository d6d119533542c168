"""One process owns the store; others read meanwhile or are told who holds it; signals end a command in order."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Kastra = Any


@contextmanager
def started(project: Kastra, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own; killed if it is still there at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kastra.cli.main", *arguments],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_with(stream: Any, text: str) -> str:
    """The first line that contains a text; the test's time-out ends a wait in vain."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"the stream ended without {text!r}")


def test_watch_shows_reconciles_and_keeps_writers_out_while_readers_come_in(changeable: Kastra) -> None:
    with started(changeable, "watch", "-o", "json", "--kind", "agent", "-f", "kitchen.yaml") as watch:
        outcome = json.loads(line_with(watch.stdout, '"cook"'))
        assert (outcome["kind"], outcome["outcome"]) == ("Agent.mastra.ai", "success")
        assert {"time", "trigger", "duration", "requeueAfter"} <= set(outcome)
        assert "agent.mastra.ai/cook" in changeable("get", "agents", "-n", "kitchen", "-o", "name").lines
        refused = changeable("label", "agent/cook", "a=b", "-n", "kitchen", env={"KASTRA_LOCK_TIMEOUT": "0.01"})
        assert refused.code == 1
        assert f"(pid {watch.pid})" in refused.stderr
        assert " watch -o json " in refused.stderr
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(20) == 143
    assert changeable("label", "agent/cook", "a=b", "-n", "kitchen").code == 0


def test_a_watch_of_objects_prints_changes_until_it_is_interrupted(changeable: Kastra) -> None:
    arguments = ("get", "agents", "-n", "kitchen", "-w", "--output-watch-events", "--show-labels")
    with started(changeable, *arguments) as watch:
        assert line_with(watch.stdout, "cook").startswith("ADDED")
        line_with(watch.stdout, "waiter")
        assert changeable("label", "agent/cook", "new=label", "-n", "kitchen").code == 0
        assert line_with(watch.stdout, "new=label").startswith("MODIFIED")
        assert changeable("delete", "agent/waiter", "-n", "kitchen").code == 0
        assert "waiter" in line_with(watch.stdout, "DELETED")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 130
        assert watch.stderr is not None
        assert "Traceback" not in watch.stderr.read()


def test_apply_applies_again_when_a_file_changes(empty: Kastra) -> None:
    file = empty.folder / "one.yaml"
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: '%s'}\n"
    file.write_text(text % 1)
    with started(empty, "apply", "-f", "one.yaml", "--watch") as apply:
        line_with(apply.stdout, "configmap/one created")
        line_with(apply.stderr, "watching for changes")
        file.write_text("not: [yaml")
        line_with(apply.stderr, "error while parsing")
        file.write_text(text % 2)
        line_with(apply.stdout, "configmap/one configured")
        apply.send_signal(signal.SIGINT)
        assert apply.wait(20) == 130


def test_an_interrupted_run_says_how_it_goes_on(empty: Kastra) -> None:
    manifest = (
        "apiVersion: mastra.ai/v1\nkind: Workflow\nmetadata: {name: nap}\n"
        "spec: {steps: [{id: nap, sleep: 1h}, {id: up, set: {a: 1}}]}\n"
    )
    assert empty("apply", "-f", "-", stdin=manifest).code == 0
    with started(empty, "run", "workflow/nap", "--name", "long") as run:
        line_with(run.stderr, "waiting for a timer")
        run.send_signal(signal.SIGINT)
        line_with(run.stderr, "run/long has not ended; 'kastra watch' goes on with it")
        assert run.wait(20) == 130
    assert empty("get", "run/long", "-o", "jsonpath={.status.phase}").stdout in ("Running", "Waiting")
    assert "waiting for a timer" in empty("logs", "run/long").stdout
