"""LangGraph on Kastra's store: a checkpointer that commits in groups and survives `kill -9`.

    with KastraSaver("graphs.db") as saver:
        graph = builder.compile(checkpointer=saver)

Needs the extra `langgraph` (`pip install 'kastra[langgraph]'`). Nothing else of Kastra imports this package, and it imports
LangGraph's interface of checkpointers only, never LangGraph. It runs no graph and knows no kind of Kastra's: it keeps what
LangGraph hands it, in tables of its own (`lg_*`), in a file of its own or in that of an open Kastra.

Source: langgraph.checkpoint.base. Read next: `kastra.langgraph.saver`.
"""

try:
    import langgraph.checkpoint.base as _interface
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"kastra.langgraph needs the package {error.name}: pip install 'kastra[langgraph]'", name=error.name
    ) from None

from .saver import KastraSaver

__all__ = ["KastraSaver"]

del _interface
