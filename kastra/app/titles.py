"""Titles of threads, as their objects have them: `spec.title`, which people may write as well, and what making one used.

Read next: `kastra.agent.titles`, which makes them.
"""

from collections.abc import Mapping

from kastra.api.errors import NotFound
from kastra.api.meta import GROUP, ObjectRef
from kastra.client.interface import Client, PatchType, WriteOptions
from kastra.memory.interface import ThreadKey

_OPTIONS = WriteOptions(field_manager="kastra-memory")
_FIELDS = ("inputTokens", "outputTokens", "costUSD", "calls")


class ThreadTitles:
    """Reads and writes them over a client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def untitled(self, thread: ThreadKey) -> bool:
        """Whether the thread is there and has no title."""
        try:
            found = await self._client.get(_ref(thread))
        except NotFound:
            return False
        return found.uid == thread.uid and not found.deleting and not found.spec.get("title")

    async def entitle(self, thread: ThreadKey, title: str, used: Mapping[str, float]) -> None:
        """Give a thread a title, unless it has got one meanwhile, and note what making it used.

        Raises:
            StatusError: it isn't possible.
        """
        found = await self._client.get(_ref(thread))
        if found.uid != thread.uid:
            return
        before = found.status.get("usage") or {}
        total = {name: before.get(name, 0) + used[name] for name in _FIELDS if used.get(name)}
        if not found.spec.get("title"):
            # A title that somebody writes at the same time stands: the revision has changed then.
            revision = found.metadata.get("resourceVersion", "")
            patch = {"metadata": {"resourceVersion": revision}, "spec": {"title": title}}
            await self._client.patch(found.ref, patch, PatchType.MERGE, _OPTIONS)
        status = {"status": {"usage": {**before, **total}}}
        await self._client.patch(found.ref, status, PatchType.MERGE, _OPTIONS, subresource="status")


def _ref(thread: ThreadKey) -> ObjectRef:
    return ObjectRef(f"Thread.{GROUP}", thread.name, thread.namespace)
