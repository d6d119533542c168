"""kill -9 while a guarded agent answers: no completed call is repeated, and what was redacted is in no record of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kastra.sql.driver import choose, open_reader

ROOT = Path(__file__).parents[2]
EXPECTED = "I am [EMAIL]: ask [EMAIL] and [EMAIL]"
POINTS = [(point, number) for point in ("journal.before_append", "journal.after_append") for number in range(1, 8)]

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


def answer(folder: Path, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KASTRA_")}
    return subprocess.run(
        [sys.executable, "-m", "tests.crash.agent_workload", str(folder)],
        cwd=folder, env={**kept, "KASTRA_FAILPOINTS": failpoints, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def records(folder: Path) -> list[tuple[int, str, str]]:
    """(type, stepKey, body) of the Run's journal."""
    database = folder / ".kastra" / "kastra.db"
    reader = open_reader(database, choose(database))
    try:
        return list(reader.query("SELECT type, step_key, CAST(body AS TEXT) FROM journal ORDER BY seq"))
    finally:
        reader.close()


@pytest.mark.parametrize(("point", "number"), POINTS)
def test_a_guarded_answer_survives_a_kill(tmp_path: Path, point: str, number: int) -> None:
    killed = answer(tmp_path, f"{point}=kill@{number}")
    assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
    done = answer(tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, EXPECTED), done.stderr
    written = records(tmp_path)
    outcomes = [(kind, key) for kind, key, _ in written if kind in (14, 16)]
    assert len(outcomes) == len(set(outcomes)), "a completed call was repeated"
    decided = [key for _, key, _ in written if (key or "").endswith("/guard")]
    assert sorted(decided) == ["turn[0]/guard", "turn[1]/guard"]
    # The question itself is in the first record as it was asked, and a tool's result as it was given.
    answers = [body for kind, _, body in written if kind == 14]
    assert answers
    assert not any("@example.org" in body for body in answers)
    effects = (tmp_path / "effects").read_text().splitlines()
    assert len(set(effects)) == 1
