"""Hooks of installed packages in the admission chain: the entry points of the group `kastra.admission`.

    async def check(attributes: Attributes) -> None       judges what is about to be stored: raises, or adds causes
    class with applies(attributes) and __call__           changes it first; made once, without arguments

A hook that fails refuses the request, as a webhook with `failurePolicy: Fail` does; the answer names the package and the line.
One that doesn't load is left out, with a line in the log. Read next: `kastra.apiserver.admission`.
"""

import inspect
from typing import Any

from kastra.api.errors import InternalError, StatusError
from kastra.apiserver.admission import AdmissionChain, Attributes, Hook, MutatingHook
from kastra.plugins import Plugin, PluginError, failed, installed, load, reason_of

GROUP = "kastra.admission"


def add_hooks(chain: AdmissionChain) -> None:
    """Put the hooks of installed packages behind those that are there, in the order of their names."""
    for plugin in installed(GROUP):
        try:
            hook = _hook_of(plugin)
        except PluginError:
            continue  # logged where it failed
        if _mutates(hook):
            chain.mutating.append(_Mutating(plugin, hook))
        else:
            chain.validating.append(_Validating(plugin, hook))


def hook_problem(hook: Any) -> str:
    """What keeps an object from being a hook; an empty text if nothing does."""
    call = hook if inspect.isfunction(hook) else getattr(hook, "__call__", None)  # noqa: B004 - its body is looked at
    if not inspect.iscoroutinefunction(call):
        return "is no async function of (attributes), and has no async __call__"
    return ""


def _hook_of(plugin: Plugin) -> Any:
    found = load(plugin, hook_problem)
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:
        raise failed(plugin, reason_of(error, plugin.module)) from error


def _mutates(hook: Any) -> bool:
    return callable(getattr(hook, "applies", None))


def _broken(plugin: Plugin, error: Exception) -> InternalError:
    return InternalError(f"{plugin} failed: {reason_of(error, plugin.module)}")


class _Validating:
    """A package's hook whose failure is a refusal."""

    def __init__(self, plugin: Plugin, hook: Hook) -> None:
        self._plugin, self._hook = plugin, hook

    async def __call__(self, attributes: Attributes) -> None:
        try:
            await self._hook(attributes)
        except StatusError:
            raise
        except Exception as error:
            raise _broken(self._plugin, error) from error


class _Mutating:
    """Likewise, for one that changes objects."""

    def __init__(self, plugin: Plugin, hook: MutatingHook) -> None:
        self._plugin, self._hook = plugin, hook

    def applies(self, attributes: Attributes) -> bool:
        try:
            return bool(self._hook.applies(attributes))
        except Exception as error:
            raise _broken(self._plugin, error) from error

    async def __call__(self, attributes: Attributes) -> None:
        try:
            await self._hook(attributes)
        except StatusError:
            raise
        except Exception as error:
            raise _broken(self._plugin, error) from error
