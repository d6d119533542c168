"""When a Namespace changes, which objects must be looked at again?

Its labels and annotations decide who may refer to what in it, and which model its Agents use, so such a change can touch
any object of a kind that refers to others. It is rare, and all of them are looked at. A Namespace that is new needs
nothing: whoever reads one that no cache has yet asks the server.

Read next: `kastra.runtime.grants` and `kastra.runtime.model_default`, which read them.
"""

from kastra.api.object import Object

from .manager import Manager
from .reconcile import Request


def look_again_when_namespaces_change(manager: Manager, controller: str, kind: str) -> None:
    """Have `controller` look at every object of `kind` when a Namespace's labels or annotations change."""

    def handler(old: Object | None, new: Object | None) -> None:
        if old is None or new is None or (old.labels == new.labels and old.annotations == new.annotations):
            return
        for obj in manager.cache.lister(kind).list():
            manager.enqueue(controller, Request(obj.namespace, obj.name), f"Namespace/{new.name}")

    manager.cache.informer("namespaces").add_handler(handler)
