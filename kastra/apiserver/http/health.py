"""Is the server alive, is it ready, and which version is it? The only routes that need no token.

`/livez` says that the process answers, `/readyz` that it takes requests (not while it stops), `/healthz` the same as
readyz. `/version` is what clients compare with their own. Read next: `kastra.apiserver.http.server`.
"""

import platform

import orjson

from kastra.version import __version__

from .message import Response, text

HEALTH = ("livez", "readyz", "healthz")
MINOR = "33"
"""The Kubernetes minor version whose API is spoken."""


def version() -> Response:
    """`kubectl version`."""
    system = f"{platform.system().lower()}/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"
    body = {
        "major": "1",
        "minor": MINOR,
        "gitVersion": f"v1.{MINOR}.0+kastra-{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": system,
    }
    return Response(body=orjson.dumps(body))


def health(check: str, *, stopping: bool, verbose: bool) -> Response:
    """`ok`, or 503 while the server stops."""
    failed = stopping and check != "livez"
    if not verbose and not failed:
        return text(200, "ok")
    mark = "[-]shutdown failed: the server is stopping" if failed else "[+]shutdown ok"
    lines = ["[+]ping ok", mark, f"{check} check {'failed' if failed else 'passed'}"]
    return text(503 if failed else 200, "\n".join(lines) + "\n")
