"""Python with everything of Kastra imported, which forks for every command that `warm_client.py` hands over.

Called with the path of its socket, in a folder of its own that it removes; says `ready` when it listens, and ends when its standard
input does, with all its forks. A fork has the client's files, folder, environment and arguments, and is from then on what the program
would have been after its imports. The server never opens a database, an event loop or a thread itself. Read next: `warm.py`, which
starts it.
"""

import contextlib
import gc
import importlib
import io
import os
import pkgutil
import selectors
import shutil
import signal
import socket
import sys
import threading
from atexit import _run_exitfuncs
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import kastra

UNWANTED = ("kastra.langgraph", "kastra.memory.vectors", "kastra.model.adapter")
"""Modules of libraries that few commands need, or that start threads."""

WANTED = ("mcp.server.mcpserver", "mcp.server.stdio", "uvicorn", "httptools", "uvloop")
"""Modules that commands import when they need them, and that the MCP servers of tests are made with."""


def preload() -> None:
    """Import what commands import; what isn't installed here, they find out themselves."""
    found = [module.name for module in pkgutil.walk_packages(kastra.__path__, "kastra.")]
    for name in (*WANTED, *(name for name in found if not name.startswith(UNWANTED))):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


@dataclass
class Request:
    """What a fork is to be."""

    program: str
    umask: int
    folder: str
    arguments: list[str]
    environment: dict[bytes, bytes]
    files: list[int]

    @classmethod
    def read(cls, connection: socket.socket) -> "Request":
        """The one request of a connection; its three files come with the length."""
        head, files, _, _ = socket.recv_fds(connection, 4, 3)
        rest = bytearray()
        while len(rest) < int.from_bytes(head, "big"):
            if not (more := connection.recv(1 << 16)):
                raise EOFError
            rest += more
        program, umask, folder, count, *fields = bytes(rest).split(b"\0")
        arguments, pairs = fields[: int(count)], fields[int(count) :]
        return cls(
            program=os.fsdecode(program),
            umask=int(umask),
            folder=os.fsdecode(folder),
            arguments=[os.fsdecode(argument) for argument in arguments],
            environment={name: value for name, _, value in (pair.partition(b"=") for pair in pairs)},
            files=list(files),
        )

    def become(self) -> Callable[[], None]:
        """Turn this process into the program's, and what is left to call."""
        os.setpgid(0, 0)
        for number, file in enumerate(self.files):
            os.dup2(file, number)
        for file in self.files:
            if file > 2:
                os.close(file)
        os.chdir(self.folder)
        os.umask(self.umask)
        os.environb.clear()
        os.environb.update(self.environment)
        program, *arguments = [self.program, *self.arguments] if self.program.endswith("kastra") else self.arguments
        sys.argv = [program, *arguments]
        added = os.environ.get("PYTHONPATH", "")
        sys.path[:1] = [
            str(Path(program).resolve().parent),
            *(str(Path(one).absolute()) for one in added.split(os.pathsep) if one),
        ]
        sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
        if os.environ.get("PYTHONUNBUFFERED"):
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), sys.stdout.encoding, write_through=True)
        if self.program.endswith("kastra"):
            return run_kastra
        return lambda: run_file(Path(program))


def run_kastra() -> None:
    """What the installed `kastra` does."""
    from kastra.cli.main import main

    sys.exit(main())


def run_file(path: Path) -> None:
    """What `python FILE` does."""
    module = ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)


def run(program: Callable[[], None]) -> NoReturn:
    """Run to the end and end as the interpreter does, but don't take all that was imported apart, as that takes longer than the rest."""
    code = 0
    try:
        program()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    getattr(threading, "_shutdown")()  # noqa: B009 # what the interpreter calls at its end
    _run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(code & 0xFF)


class Server:
    """One loop: connections come, forks end, clients pass signals on or go away."""

    def __init__(self, address: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.folder = Path(address).parent
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(address)
        self.listening.listen(64)
        self.ended, wake = os.pipe()
        os.set_blocking(self.ended, False)
        os.set_blocking(wake, False)
        self.wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.children: dict[int, socket.socket] = {}
        for file, action in ((self.listening, self.accept), (self.ended, self.reap), (0, self.close)):
            self.selector.register(file, selectors.EVENT_READ, action)

    def serve(self) -> Callable[[], None]:
        """Serve; in a fork, give what is left to call. What ended is over before anything new begins."""
        while True:
            ready = [key for key, _ in self.selector.select()]
            for key in sorted(ready, key=lambda key: key.fileobj is self.listening):
                if program := key.data():
                    return program

    def accept(self) -> Callable[[], None] | None:
        """Take a request and fork."""
        connection, _ = self.listening.accept()
        try:
            request = Request.read(connection)
        except (EOFError, OSError, ValueError):
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (self.selector, self.listening, connection, *self.children.values()):
                one.close()
            os.close(self.ended)
            os.close(self.wake)
            return request.become()
        for file in request.files:
            os.close(file)
        self.children[pid] = connection
        self.selector.register(connection, selectors.EVENT_READ, lambda: self.pass_on(pid))
        return None

    def pass_on(self, pid: int) -> None:
        """A signal that the client got, or its end."""
        if connection := self.children.get(pid):
            try:
                got = connection.recv(16)
            except ConnectionResetError:
                got = b""
            for number in got:
                os.kill(pid, number)
            if not got:
                os.kill(pid, signal.SIGKILL)
                self.over(*os.waitpid(pid, 0))

    def reap(self) -> None:
        """Forks that ended."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.ended, 4096)
        for pid in [*self.children]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.over(ended, status)

    def over(self, pid: int, status: int) -> None:
        """Tell the client how its fork ended."""
        connection = self.children.pop(pid)
        self.selector.unregister(connection)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        connection.close()

    def close(self) -> None:
        """Nobody is left to serve: an end without traces, also when pytest was killed."""
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)


def main() -> None:
    """Serve, and be what is asked for in a fork."""
    preload()
    gc.collect()
    gc.freeze()
    server = Server(sys.argv[1])
    os.write(1, b"ready\n")
    run(server.serve())


main()
