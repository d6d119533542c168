"""What does a controller's function ask for? Its parameters say so, by their annotations.

    async def reconcile(glossary: Glossary, client: Client, log: logging.Logger) -> Result: ...

Of one pass: the view, `Object` (the same, raw), `Context`, `Request`. Of the process: `Client`, `Recorder`, `Clock`, `Cache`,
`logging.Logger`, and whatever is registered as a service, `Settings` among them. Without annotations the first two
are the view and the context. What can't be provided is an error when the controller is added, not when it is called.

Source: FastAPI's and pytest's dependency injection. Read next: `kastra.runtime.declarative`.
"""

import inspect
import logging
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from kastra.api.object import Object
from kastra.client.interface import Client
from kastra.clock import Clock

from .cache import Cache
from .context import Context, Host
from .reconcile import Request
from .recorder import Recorder

Provider = Callable[[Any, Context], Any]
"""From the view and the context of a pass to an argument."""


class InjectionError(TypeError):
    """A function asks for something that there isn't; the message says where, what, and what there is."""


def bind(function: Callable[..., Any], host: Host, *, name: str, view: type[Any]) -> Callable[[Any, Context], Any]:
    """The function as one of a view and a context.

    Args:
        name: of the controller, for its logger and for messages.
        view: reads the objects.

    Raises:
        InjectionError: a parameter can't be provided.
    """
    plan = _plan(function, host, name, view)
    if [provider for _, provider in plan] == [_the_view, _the_context] and not any(word for word, _ in plan):
        return function

    def call(found: Any, ctx: Context) -> Any:
        arguments = [provider(found, ctx) for word, provider in plan if not word]
        return function(*arguments, **{word: provider(found, ctx) for word, provider in plan if word})

    return call


def provide(function: Callable[..., Any], host: Host, *, name: str) -> Callable[[], Any]:
    """A function (or class) that belongs to no pass, as one without parameters. Raises InjectionError."""
    plan = _plan(function, host, name, None)
    nothing: Any = None

    def call() -> Any:
        arguments = [provider(nothing, nothing) for word, provider in plan if not word]
        return function(*arguments, **{word: provider(nothing, nothing) for word, provider in plan if word})

    return call


def _plan(function: Callable[..., Any], host: Host, name: str, view: type[Any] | None) -> list[tuple[str, Provider]]:
    """Providers in the order of the parameters, each with its name if it takes one as a keyword."""
    place = _place(function)
    annotated: Any = function
    try:
        hints = get_type_hints(annotated.__init__ if isinstance(function, type) else annotated)
    except NameError as error:
        raise InjectionError(f"{place}: an annotation can't be resolved: {error}") from None
    plan: list[tuple[str, Provider]] = []
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InjectionError(f"{place}: *{parameter.name} can't be provided; name what is needed")
        word = parameter.name if parameter.kind is parameter.KEYWORD_ONLY else ""
        hint = hints.get(parameter.name)
        provider = _provider(hint, index, host, name, view)
        if provider is not None:
            plan.append((word, provider))
        elif parameter.default is not parameter.empty:
            plan.append((word, _constant(parameter.default)))
        else:
            shown = getattr(hint, "__qualname__", None) or (str(hint) if hint is not None else "no annotation")
            raise InjectionError(
                f"{place}: parameter {parameter.name!r} of controller {name!r} can't be provided ({shown}). There are "
                f"{_known(view)}, and what is registered as a service in this process"
            )
    return plan


def _provider(hint: Any, index: int, host: Host, name: str, view: type[Any] | None) -> Provider | None:
    if hint is None or hint is Any:
        return (_the_view, _the_context)[index] if view is not None and index < 2 else None
    if get_origin(hint) in (Union, UnionType):
        options = [option for option in get_args(hint) if option is not NoneType]
        optional = len(options) < len(get_args(hint))
        found = _provider(options[0], index, host, name, view) if len(options) == 1 else None
        return found or (_constant(None) if optional else None)
    if not isinstance(hint, type):
        return None
    if view is not None:
        if hint in view.__mro__ and hint is not object:
            return _the_view
        of_the_pass = _OF_THE_PASS.get(hint)
        if of_the_pass is not None:
            return of_the_pass
    if hint is logging.Logger:
        return _constant(logging.getLogger(f"kastra.controllers.{name}"))
    of_the_process = {Client: host.client, Recorder: host.recorder, Clock: host.clock, Cache: host.cache}
    if hint in of_the_process:
        return _constant(of_the_process[hint])
    try:
        return _constant(host.service(hint))
    except LookupError:
        return None


def _constant(value: Any) -> Provider:
    return lambda view, ctx: value


def _the_view(view: Any, ctx: Context) -> Any:
    return view


def _the_context(view: Any, ctx: Context) -> Context:
    return ctx


_OF_THE_PASS: dict[type[Any], Provider] = {
    Context: _the_context,
    Object: lambda view, ctx: ctx.object,
    Request: lambda view, ctx: Request(ctx.object.namespace, ctx.object.name),
}


def _known(view: type[Any] | None) -> str:
    of_the_pass = [view.__name__, *(known.__name__ for known in _OF_THE_PASS)] if view is not None else []
    return ", ".join([*of_the_pass, "Client", "Recorder", "Clock", "Cache", "logging.Logger"])


def _place(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return f"{function.__module__}.{function.__qualname__}"
    return f"{code.co_filename}:{code.co_firstlineno}"
