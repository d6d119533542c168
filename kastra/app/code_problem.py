"""Where in a project's code did it go wrong? An exception as a Problem: file, line, column, the line itself.

The place is the deepest one in the project's own files, since that is what its author can change; for a file that isn't
Python at all, where the compiler stopped. Read next: `kastra.manifest.problem`, which prints it.
"""

import linecache
import os
from itertools import islice
from pathlib import Path
from types import TracebackType

from kastra.manifest.position import START, Mark
from kastra.manifest.problem import Problem


def code_problem(error: BaseException, project: Path, file: Path) -> Problem:
    """What an exception says about the project's code.

    Args:
        project: below which a place counts.
        file: whose code was being run; named if the exception has no place in the project.
    """
    while error.__cause__ is not None and type(error).__name__ == "DiscoveryError":
        error = error.__cause__
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename and _inside(error.filename, project):
        mark = Mark(error.lineno or 1, max(1, error.offset or 1))
        length = (error.end_offset or 0) - (error.offset or 0) if error.end_lineno == error.lineno else 0
        line = linecache.getline(error.filename, mark.line).rstrip("\n")
        message = f"{type(error).__name__}: {error.msg}"
        return Problem("error", shown(Path(error.filename)), mark, "", message, line, mark, max(0, length))
    name, mark, length = str(file), START, 0
    trace = error.__traceback__
    while trace is not None:
        if _inside(trace.tb_frame.f_code.co_filename, project):
            name = trace.tb_frame.f_code.co_filename
            mark, length = _place(trace)
        trace = trace.tb_next
    line = linecache.getline(name, mark.line).rstrip("\n") if error.__traceback__ is not None else ""
    return Problem("error", shown(Path(name)), mark, "", message, line, mark, length)


def shown(path: Path) -> str:
    """A path as it is shown: from the working folder, if it is below that."""
    folder = Path.cwd()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _inside(filename: str, project: Path) -> bool:
    return os.path.realpath(filename).startswith(f"{project}{os.sep}")


def _place(trace: TracebackType) -> tuple[Mark, int]:
    """Line, column (from 1, in characters) and length of what a frame was doing."""
    positions = next(islice(trace.tb_frame.f_code.co_positions(), max(0, trace.tb_lasti // 2), None), None)
    line, end_line, start, end = positions or (None, None, None, None)
    if line is None or start is None or line != trace.tb_lineno:
        return Mark(trace.tb_lineno, 1), 0
    # Positions count bytes.
    text = linecache.getline(trace.tb_frame.f_code.co_filename, line).encode()
    column = len(text[:start].decode(errors="replace"))
    length = len(text[start:end].decode(errors="replace")) if end is not None and end_line == line else 0
    return Mark(line, column + 1), length
