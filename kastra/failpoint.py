"""Named places where a test can make the process stop, fail or wait; free when nothing is armed.

`failpoint("store.before_commit")` is one dictionary look-up unless the environment variable `KASTRA_FAILPOINTS` arms the
name: `name=kill` (SIGKILL to this process), `name=raise` (OSError), `name=sleep:0.5`, and each may carry `@n` to act at the
n-th pass only (`journal.after_append=kill@3`); several are separated by `;`. With `KASTRA_FAILPOINTS_LOG` set to a file,
every name passed is appended to it once, so that a test can list the points a scenario reaches, and the one that killed the
process once more as `name=kill`.

Source: gofail, as etcd's robustness tests use it.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass


@dataclass(slots=True)
class _Armed:
    action: str
    at: int
    passes: int = 0


_armed: dict[str, _Armed] = {}
_log_path: str | None = None
_logged: set[str] = set()
_active = False
_lock = threading.Lock()


def arm(text: str, log: str = "") -> None:
    """Arm the failpoints that `text` describes, replacing what was armed; an empty text disarms all.

    Args:
        log: a file to use as `KASTRA_FAILPOINTS_LOG` from now on; empty for the one there is, if any.

    Raises:
        ValueError: `text` does not have the form described above.
    """
    global _active, _log_path
    _log_path = log or _log_path
    _armed.clear()
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, separator, action = part.partition("=")
        action, _, at = action.partition("@")
        if not separator or action.split(":")[0] not in ("kill", "raise", "sleep") or (at and not at.isdigit()):
            raise ValueError(f"failpoint {part!r}: write name=kill|raise|sleep:SECONDS, optionally followed by @n")
        _armed[name] = _Armed(action, int(at or 0))
    _active = bool(_armed) or _log_path is not None


def failpoint(name: str) -> None:
    """Do what is armed under `name`; nothing in normal operation."""
    if _active:
        _pass(name)


def _pass(name: str) -> None:
    if _log_path is not None:
        with _lock:
            if name not in _logged:
                _logged.add(name)
                with open(_log_path, "a", encoding="utf-8") as log:  # noqa: PTH123 - may run while the process dies
                    log.write(name + "\n")
    armed = _armed.get(name)
    if armed is None:
        return
    with _lock:
        armed.passes += 1
        due = armed.at in (0, armed.passes)
    if not due:
        return
    if armed.action == "kill":
        if _log_path is not None:
            with open(_log_path, "a", encoding="utf-8") as log:  # noqa: PTH123 - the last thing this process does
                log.write(name + "=kill\n")
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "raise":
        raise OSError(f"failpoint {name}")
    else:
        time.sleep(float(armed.action.partition(":")[2] or 0))


def _read_environment() -> None:
    global _log_path, _active
    _log_path = os.environ.get("KASTRA_FAILPOINTS_LOG") or None
    arm(os.environ.get("KASTRA_FAILPOINTS", ""))


_read_environment()
