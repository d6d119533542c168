"""The composition root and the Python API: `kastra.open`, `kastra.connect`.

Only this package knows every part. `composition` wires them, `embedded` is what applications and the command line use,
`remote` is the same against a server, `applying` and `running` are the two things one does with either.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .composition import peek as peek
    from .embedded import Kastra as Kastra
    from .embedded import open as open  # noqa: A004 - kastra.open reads like the built-in it resembles
    from .remote import Remote as Remote
    from .remote import connect as connect

_EXPORTS = {
    "Kastra": "embedded",
    "Remote": "remote",
    "connect": "remote",
    "open": "embedded",
    "peek": "composition",
}

__all__ = list(_EXPORTS)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    # On demand, since a read-only look at the store needs next to nothing of what running it needs.
    if name in _EXPORTS:
        from importlib import import_module

        return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
