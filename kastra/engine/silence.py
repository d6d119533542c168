"""Which places of a Run tell those who follow it nothing but what is durable? The steps with `stream: false`, and all below them.

Deltas of text and progress are left out; what the journal holds is told as ever. Read next: `kastra.engine.context`, which asks.
"""

_AFTER = frozenset("/[#~@")
"""What follows a stepKey where another begins with it: what is below, an item, an iteration, an attempt, a visit."""


class Silence:
    """The silent places of a Run."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def over(self, key: str) -> None:
        """Nothing ephemeral is told of the step at `key`, and of what is below it."""
        self._keys.add(key)

    def covers(self, key: str) -> bool:
        """Whether nothing ephemeral is told of this place."""
        if not self._keys:
            # Asked for every delta, and mostly there is none.
            return False
        return any(key == silent or (key.startswith(silent) and key[len(silent)] in _AFTER) for silent in self._keys)
