"""How long may the garbage collector stop everything? A few milliseconds, however much is stored.

Left to itself, Python looks through all objects of the process every now and then: 200 ms for 50,000 stored ones, during which
nobody is answered. Nearly all that lives long here is stored objects and what indexes them. They form no cycles, so counting
references frees them, and looking through them finds nothing. So they are looked through once or twice, soon after they came to be, and
are then set aside (`gc.freeze`). Where looks find nothing at all, they are set aside as they are, and only every fourth time are they
looked through. What becomes a cycle after it was set aside is never freed: a share of what was under way in that moment, at most once
per `_YOUNG` objects by which the process has grown.

Source: the documentation of `gc`. Read next: `kastra.app.composition`, which uses it.
"""

import asyncio
import contextlib
import gc
from collections.abc import Iterator, Mapping
from typing import Any

_YOUNG = 5_000
"""Objects made and not freed, after which the youngest are looked through; a few milliseconds where they are parsed JSON."""
_CLEAN = 3
"""Looks in a row that found nothing, after which most are left out: what has come to be is set aside as it is."""
_SKIPPED = 3
"""Looks that are left out before there is one again, to see whether there is still nothing to be found."""
_ROUNDS = 3
"""Of these, after which those that survived are looked through together."""
_SET_ASIDE = 15_000
"""Objects that survived that too, after which they are looked through once more and set aside."""
_NEVER = 1_000_000


@contextlib.contextmanager
def short_pauses() -> Iterator[None]:
    """Collect garbage a little at a time while this lasts. To be entered in a running event loop; nesting does no harm."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    collector = _Collector(asyncio.get_running_loop())
    gc.callbacks.append(collector)
    gc.set_threshold(_YOUNG, _ROUNDS, _NEVER)
    # What has been imported stays, so there is no need to look.
    gc.freeze()
    try:
        yield
    finally:
        gc.callbacks.remove(collector)
        gc.set_threshold(*before)
        if not frozen:
            # The process may go on with other things.
            gc.unfreeze()


class _Collector:
    """Called before and after each look of the collector."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked = False
        self._clean = 0
        self._skipped = 0

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        if phase == "start":
            if self._clean >= _CLEAN and self._skipped < _SKIPPED:
                # Then there is nothing for it to look at.
                self._skipped += 1
                gc.freeze()
            else:
                self._skipped = 0
        elif not self._skipped:
            self._clean = 0 if info["collected"] else self._clean + 1
            if info["generation"] == 1 and not self._asked and len(gc.get_objects(2)) >= _SET_ASIDE:
                self._asked = True
                # Not from in here: a collection is still under way, perhaps on another thread.
                with contextlib.suppress(RuntimeError):  # the loop has just ended
                    self._loop.call_soon_threadsafe(self._set_aside)

    def _set_aside(self) -> None:
        self._clean = 0
        gc.collect()
        gc.freeze()
        self._asked = False
