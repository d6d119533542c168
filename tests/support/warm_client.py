"""Stands in for a program: has a fork of the server do the work, and ends as that ends.

Called with the server's socket, what the server's environment says to Python (`NAME=value` each, then `--`), the program it stands in
for (`kastra`, or a `python` that runs a file) and its arguments. It hands over its open files, its folder and its environment, and
passes signals on; when it is gone, the server kills the fork. What a fork can't be like (other options of Python, another locale) is
left to the program itself. It imports as little as it can: this is most of what a command costs. Read next: `warm_server.py`.
"""

import _socket  # `socket` would take as long as all the rest
import os
import signal
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


MADE_UP_FOR = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
"""Variables that the server sees to in its forks."""


def utf8(environment: dict[str, str]) -> bool:
    """Whether Python takes files and terminals to be UTF-8, which it does in the locale C as well."""
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or "C"
    return locale in ("C", "POSIX") or "utf" in locale.lower()


def starts_alike(served: dict[str, str]) -> bool:
    """Whether Python would start as the server did."""
    names = {name for name in {*os.environ, *served} if name.startswith("PYTHON")} - MADE_UP_FOR
    return utf8(dict(os.environ)) == utf8(served) and all(os.environ.get(name) == served.get(name) for name in names)


def request(program: str, arguments: list[str]) -> bytes:
    """What the fork is to be: the program, its file mode mask, its folder, its arguments after their number, its environment."""
    umask = os.umask(0)
    os.umask(umask)
    fields = [
        program,
        str(umask),
        os.getcwd(),  # noqa: PTH109 # `pathlib` takes long to import
        str(len(arguments)),
        *arguments,
    ]
    return b"\0".join([*map(os.fsencode, fields), *(name + b"=" + value for name, value in os.environb.items())])


def main() -> None:
    """Hand the work over, wait, and end in the same way."""
    address, *rest = sys.argv[1:]
    end = rest.index("--")
    served = dict(pair.split("=", 1) for pair in rest[:end])
    program, *arguments = rest[end + 1 :]
    of_a_file = program.endswith("kastra") or (arguments and arguments[0].endswith(".py"))
    if not of_a_file or not starts_alike(served):
        os.execv(program, [program, *arguments])
    message = request(program, arguments)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(address)
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: connection.send(bytes([number])))
    files = b"".join(file.to_bytes(4, sys.byteorder) for file in (0, 1, 2))
    connection.sendmsg([len(message).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    connection.sendall(message)
    told = connection.recv(4)
    if not told:
        sys.exit("the server of warm programs is gone")
    code = int(told)
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
