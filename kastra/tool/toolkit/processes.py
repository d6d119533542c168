"""Group `process`: programs that the manifest allows by name, without a shell.

A model chooses program and arguments, so the manifest must say which programs there are; what they can do with their
arguments, they can do with the rights of the server. Read next: `kastra.tool.program`.
"""

from pathlib import Path
from typing import Annotated, Any

from kastra.tool.interface import ToolContext
from kastra.tool.program import ProgramLimits, environment_of, run_program
from kastra.tool.toolkit.bounds import text_of
from kastra.tool.toolkit.builtin import RUN, Builtin, forbidden, unfit
from kastra.tool.toolkit.jail import parts_of
from kastra.tool.toolkit.kit import Kit

MAX_ARGUMENTS = 200
MAX_OUTPUT = 100_000
"""Bytes of standard output and of standard error that are kept."""
MEMORY = 2 * 1024 * 1024 * 1024
"""Bytes of address space."""


async def run(
    kit: Kit,
    context: ToolContext,
    program: Annotated[str, "Name of one of the allowed programs."],
    arguments: Annotated[list[str], "Each as the program gets it; nothing is expanded."] = [],  # noqa: B006 - never changed
    stdin: Annotated[str, "Written to its standard input."] = "",
    path: Annotated[str, "Folder to start in, relative to the tool's folder."] = "",
) -> dict[str, Any]:
    """Run an allowed program with arguments, without a shell; gives exit code, standard output and standard error."""
    allowed: list[str] = list(kit.settings.get("programs") or ())
    if program not in allowed:
        raise forbidden(f"program {program[:100]!r} is not allowed; allowed are {', '.join(allowed)}")
    if len(arguments) > MAX_ARGUMENTS or any("\0" in argument for argument in arguments):
        raise unfit(f"arguments: at most {MAX_ARGUMENTS}, without NUL")
    text_of(stdin, "stdin")
    with kit.jail.folder(parts_of(path), make=not path) as descriptor:
        # By the descriptor, so that it is the folder that was walked to, whatever has been put in its place since.
        started = run_program(
            [program, *arguments],
            stdin=stdin.encode("utf-8", "surrogatepass"),
            folder=_place(descriptor),
            environment=environment_of((), {"KASTRA_IDEMPOTENCY_KEY": context.idempotency_key}),
            limits=ProgramLimits(memory=MEMORY, output=MAX_OUTPUT, errors=MAX_OUTPUT, keep=True),
        )
        ended = await started
    result: dict[str, Any] = {
        "exitCode": ended.code,
        "stdout": bytes(ended.output).decode("utf-8", "replace"),
        "stderr": bytes(ended.errors).decode("utf-8", "replace"),
    }
    if ended.printed > MAX_OUTPUT:
        result["truncated"] = f"stdout: the first {MAX_OUTPUT:,} of {ended.printed:,} bytes"
    if ended.complained > MAX_OUTPUT:
        result["stderrTruncated"] = f"the last {MAX_OUTPUT:,} of {ended.complained:,} bytes"
    return result


def _place(descriptor: int) -> str:
    linked = Path("/proc/self/fd") / str(descriptor)
    if linked.exists():
        return str(linked)
    import fcntl

    # macOS has no /proc; F_GETPATH (50) says where a descriptor is.
    return fcntl.fcntl(descriptor, 50, bytes(1024)).rstrip(b"\0").decode()


TOOLS = (Builtin("process.run", run, RUN, ("folder", "programs"), ("programs",), timeout=60.0),)
