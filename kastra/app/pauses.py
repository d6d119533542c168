"""How long may the garbage collector stop everything? A few milliseconds, however much is stored.

Left to itself, Python looks through all objects of the process every now and then: 200 ms for 50,000 stored ones, during which
nobody is answered. Nearly all that lives long here is stored objects and what indexes them. They form no cycles, so counting
references frees them, and looking through them finds nothing. So they are looked through once or twice, soon after they came to be, and
are then set aside (`gc.freeze`): at once where the last looks have found nothing, since what is under way then makes no cycles. What
becomes a cycle after it was set aside is never freed: a share of what was under way in that moment, at most once per `_YOUNG` objects
by which the process has grown.

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
"""Looks at the youngest in a row that found nothing, after which those that survive are set aside without another one."""
_ROUNDS = 3
"""Of these, after which those that survived are looked through together."""
_SET_ASIDE = 15_000
"""Objects that survived that too, after which they are looked through once more and set aside."""
_NEVER = 1_000_000


@contextlib.contextmanager
def short_pauses() -> Iterator[None]:
    """Collect garbage a little at a time while this lasts. To be entered in a running event loop; nesting does no harm."""
    loop = asyncio.get_running_loop()
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    asked, clean = False, 0

    def collected(phase: str, info: Mapping[str, Any]) -> None:
        nonlocal asked, clean
        if phase != "stop":
            return
        clean = 0 if info["collected"] else clean + 1
        is_clean = clean >= _CLEAN
        if not asked and (is_clean or (info["generation"] == 1 and len(gc.get_objects(2)) >= _SET_ASIDE)):
            asked = True
            # Not from in here: a collection is still under way, perhaps on another thread.
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(set_aside, not is_clean)

    def set_aside(looking: bool) -> None:
        nonlocal asked
        if looking:
            gc.collect()
        gc.freeze()
        asked = False

    gc.callbacks.append(collected)
    gc.set_threshold(_YOUNG, _ROUNDS, _NEVER)
    # What has been imported stays, so there is no need to look.
    gc.freeze()
    try:
        yield
    finally:
        gc.callbacks.remove(collected)
        gc.set_threshold(*before)
        if not frozen:
            # The process may go on with other things.
            gc.unfreeze()
