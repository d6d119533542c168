"""An empty project, and `kastra` as a function that runs a verb in a folder."""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from kastra.cli.main import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with nothing but settings."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "kastra.toml").write_text("")
    return folder


@pytest.fixture
def kastra(project: Path) -> Command:
    """Runs `kastra ARGUMENTS...` in the project; gives the exit code and what was printed."""

    def run(*arguments: str, folder: Path = project) -> tuple[int, str, str]:
        # In a thread, so that async tests can call it: a command has an event loop of its own.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_run, folder, arguments).result()

    return run


def _run(folder: Path, arguments: tuple[str, ...]) -> tuple[int, str, str]:
    root = logging.getLogger()
    handlers, level, code = root.handlers[:], root.level, 0
    try:
        with contextlib.chdir(folder), CliRunner().isolation() as (out, err, _):
            try:
                main([*arguments])
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            return code, out.getvalue().decode(), err.getvalue().decode()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
