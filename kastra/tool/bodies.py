"""Which body does a Tool have, and what performs its calls? From the plain spec of a Tool to something that can be called.

Bodies that are other objects (`agent`, `workflow`) aren't made here: they run within a Run, which is `kastra.agent`'s
matter. Read next: `kastra.tool.declared`.
"""

from collections.abc import Mapping
from typing import Any

import anyio.to_thread

from kastra.tool.http import HttpTool
from kastra.tool.interface import ToolBody, ToolServices
from kastra.tool.isolated import IsolatedTool, described
from kastra.tool.process import ProcessTool
from kastra.tool.python import PythonTool, compile_inline, load_entrypoint, load_plugin
from kastra.tool.toolkit.body import builtin_body

CALLED = ("python", "http", "process", "builtin")
"""The bodies that are made here."""


async def body_of(name: str, spec: Mapping[str, Any], services: ToolServices) -> ToolBody:
    """What performs the calls of the Tool `name`.

    Raises:
        ValueError: the body makes no sense, or is of a kind that can't be called; the message begins with its path.
    """
    if (http := spec.get("http")) is not None:
        return HttpTool({**http, "allowPrivate": http.get("allowPrivate", spec.get("allowPrivate"))}, services)
    if (process := spec.get("process")) is not None:
        return ProcessTool(process, services)
    if (builtin := spec.get("builtin")) is not None:
        return builtin_body(builtin, services)
    if (python := spec.get("python")) is not None and (isolation := spec.get("isolation")) is not None:
        own = await described(name, python, isolation, services.folder)
        return IsolatedTool(name, python, isolation, services.folder, own)
    if python is not None:
        # Importing runs somebody's code, which must not stall the event loop.
        if python.get("inline"):
            source: str = python["inline"]
            function = await anyio.to_thread.run_sync(compile_inline, source, name)
            return PythonTool(function, f"tool {name}")
        if python.get("plugin"):
            offered: str = python["plugin"]
            return PythonTool(await anyio.to_thread.run_sync(load_plugin, offered), f"plugin {offered}")
        entrypoint: str = python["entrypoint"]
        function = await anyio.to_thread.run_sync(load_entrypoint, entrypoint, services.folder)
        return PythonTool(function, entrypoint)
    other = next((kind for kind in ("mcp",) if spec.get(kind) is not None), "")
    if other:
        raise ValueError(f"spec.{other}: tools of servers are made with the connection to their server")
    raise ValueError(f"spec: has none of {', '.join(CALLED)}")
