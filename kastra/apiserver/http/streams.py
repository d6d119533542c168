"""How many streams (watches, events of Runs) does each user have open? One user can't take all of the server's memory.

Only counts; streams themselves are `kastra.apiserver.http.server`'s. Read next: `kastra.apiserver.filters`, whose limits
are those of requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from kastra.api.errors import TooManyRequests
from kastra.apiserver.call import User

_RETRY_AFTER = 10


class Streams:
    """The open streams by user.

    Args:
        limit: of one user.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[str, int] = {}

    def check(self, user: User) -> None:
        """Whether a user may open one more. Raises TooManyRequests."""
        if self._open.get(user.name, 0) >= self._limit:
            raise TooManyRequests(
                f"Too many watches of {user.name!r} at once: at most {self._limit} may be open.",
                retry_after=_RETRY_AFTER,
            )

    @contextmanager
    def counted(self, user: User) -> Iterator[None]:
        """Count one while the block runs."""
        self._open[user.name] = self._open.get(user.name, 0) + 1
        try:
            yield
        finally:
            self._open[user.name] -= 1
            if not self._open[user.name]:
                del self._open[user.name]
