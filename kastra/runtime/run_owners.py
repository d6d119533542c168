"""Does somebody still need a Run that has ended? A Run that it is a child of does, until it has ended itself.

A parent that is taken up again, or that was busy elsewhere, asks its child for the outcome; without the child it could neither
go on nor may it do the same again. So neither `ttlAfterFinished` nor the limits of `history` delete it before. Runs that
a tool has started have no such parent. Never touches anything. Read next: `controllers/run.py`.
"""

from collections.abc import Callable

from kastra.api.object import Object

AGAIN = 30.0
"""Seconds after which to ask again whether the parent has ended."""


def is_needed(run: Object, find: Callable[[str, str], Object | None]) -> bool:
    """Whether a Run that has not ended owns `run`.

    Args:
        find: gives a Run by namespace and name, if it is there.
    """
    for owner in run.owner_references:
        if owner.get("kind") == "Run":
            parent = find(run.namespace, str(owner.get("name", "")))
            if parent is not None and parent.uid == owner.get("uid") and not parent.is_condition_true("Complete"):
                return True
    return False
