"""The controller runtime: informers, work queues, reconcilers and the manager that runs them.

What controllers import, built-in ones and others alike. `View` and `Fields` load pydantic and are therefore looked up only
when they are asked for. Read `informer`, `workqueue`, `controller` in this order, then `declarative`.
"""

from typing import TYPE_CHECKING, Any

from .closure import UnresolvedReferences, closure
from .context import Context
from .controller import Controller
from .declarative import ControllerSpec, controller
from .discovery import Discovered, DiscoveryError, discover
from .indexer import Lister
from .injection import InjectionError
from .leader import Election, LeadershipLost
from .manager import RECONCILE_TOPIC, Manager
from .reconcile import Reconciler, Request, Result, Retry, TerminalError
from .references import MEMBER_LABEL, Missing, Resolution, Resolver
from .views import Views

if TYPE_CHECKING:
    from .view import Fields, View

__all__ = [
    "MEMBER_LABEL",
    "RECONCILE_TOPIC",
    "Context",
    "Controller",
    "ControllerSpec",
    "Discovered",
    "DiscoveryError",
    "Election",
    "Fields",
    "InjectionError",
    "LeadershipLost",
    "Lister",
    "Manager",
    "Missing",
    "Reconciler",
    "Request",
    "Resolution",
    "Resolver",
    "Result",
    "Retry",
    "TerminalError",
    "UnresolvedReferences",
    "View",
    "Views",
    "closure",
    "controller",
    "discover",
]


def __getattr__(name: str) -> Any:
    if name in ("Fields", "View"):
        from . import view

        return getattr(view, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
