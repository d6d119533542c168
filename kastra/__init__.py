r"""Kastra: the Kubernetes way of working for AI agents.

You declare Agents, Tools, Workflows and Networks in YAML; `kastra apply -f manifests` validates and stores them; controllers
make them real and keep them so; Runs execute them durably, so that a `kill -9` loses nothing and repeats no completed step.

Two halves that meet only in `kastra/controllers` and `kastra/app`:

    control      manifest -> apiserver -> store -> bus -> runtime
                                   \                      /
                                 controllers/ , kastra/app
                                   /                      \
    execution    engine -> agent -> model | tool

To understand the whole, read in this order, by jump-to-definition; it is about 4,000 lines:

     1  this page
     2  kastra/manifest/loader.py       files become manifests, every field with its place
     3  kastra/apiserver/admission.py   the one place that changes an object before it is stored
     4  kastra/apiserver/registry.py    what create, update, patch, apply and delete mean
     5  kastra/store/objects.py         bytes at revisions, compare-and-swap, one group commit for many
     6  kastra/bus.py, store/watch.py   committed changes fan out; a watch joins replay and live
     7  kastra/runtime/informer.py      list and watch become an indexed cache
     8  kastra/runtime/workqueue.py     each key once, one at a time, with backoff
     9  kastra/runtime/controller.py    events become requests, requests become reconciles
    10  kastra/controllers/run.py       a Run is submitted, its progress becomes status
    11  kastra/engine/executor.py       a graph is driven from its journal to the next blocking point
    12  kastra/engine/step.py           the seam that every effect crosses; with engine/journal.py

and `kastra/app/` last, for the wiring.

Embedding it takes three lines::

    async with kastra.open("agents.db") as k:
        await k.apply("manifests")
        result = await k.run("workflow/recipe-suggestion", input={"ingredients": ["eggs", "spinach"]})
"""

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .app import Kastra as Kastra
    from .app import Remote as Remote
    from .app import connect as connect
    from .app import open as open  # noqa: A004 - kastra.open reads like the built-in it resembles
    from .runtime.declarative import Context as Context
    from .runtime.declarative import controller as controller
    from .runtime.reconcile import Request as Request
    from .runtime.reconcile import Result as Result
    from .runtime.reconcile import Retry as Retry
    from .runtime.reconcile import TerminalError as TerminalError
    from .runtime.view import Fields as Fields
    from .runtime.view import View as View
    from .tool.interface import ToolContext as ToolContext

_EXPORTS = {
    "Context": "kastra.runtime.declarative",
    "Fields": "kastra.runtime.view",
    "Kastra": "kastra.app",
    "Remote": "kastra.app",
    "Request": "kastra.runtime.reconcile",
    "Result": "kastra.runtime.reconcile",
    "Retry": "kastra.runtime.reconcile",
    "TerminalError": "kastra.runtime.reconcile",
    "ToolContext": "kastra.tool.interface",
    "View": "kastra.runtime.view",
    "connect": "kastra.app",
    "controller": "kastra.runtime.declarative",
    "open": "kastra.app",
}

__all__ = ["__version__", *sorted(_EXPORTS)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    # By name and on demand, so that `import kastra` costs nothing and lower layers can be imported alone.
    if name in _EXPORTS:
        from importlib import import_module

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
