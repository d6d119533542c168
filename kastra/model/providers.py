"""Which provider types are there? The built-in ones, and those that installed packages add.

A package adds one by an entry point in the group `kastra.models`: its name is the provider type, its value a
`ModelFactory`. A built-in name can't be replaced. Nothing is imported before a ModelProvider or a model of that type is looked at.

Read next: `kastra.model.openai`, which makes most of the built-in ones; `kastra.plugins`.
"""

import difflib
from importlib import import_module
from typing import Any

from kastra.model.interface import Model, ModelConfig, ModelFactory, ModelServices
from kastra.plugins import OWN, Plugin, PluginError, installed, load, reason_of

GROUP = "kastra.models"

BUILT_IN = {
    "scripted": "kastra.model.scripted:create",
    "openai": "kastra.model.openai:create",
    "openai-compatible": "kastra.model.openai:create",
    "deepseek": "kastra.model.openai:create",
    "groq": "kastra.model.openai:create",
    "ollama": "kastra.model.openai:create",
    "openrouter": "kastra.model.openai:create",
    "vllm": "kastra.model.openai:create",
    "anthropic": "kastra.model.anthropic:create",
    "pydantic-ai": "kastra.model.adapter:create",
}


def provider_types() -> list[str]:
    """The names that `model.provider` and a ModelProvider's `type` may have, sorted."""
    return sorted({*BUILT_IN, *(plugin.name for plugin in plugins())})


def suggestion(provider: str) -> str:
    """The provider type that was probably meant, or an empty text."""
    return next(iter(difflib.get_close_matches(provider, provider_types(), n=1)), "")


def create(config: ModelConfig, services: ModelServices) -> Model:
    """A model of the configured provider type.

    Raises:
        ValueError: there is no such type, or its configuration is wrong.
        PluginError: the package that offers it does not load, or fails.
    """
    plugin = plugin_of(config.provider)
    factory = load_factory(plugin)
    try:
        return factory(config, services)
    except (ValueError, ImportError):
        raise
    except Exception as error:
        if plugin.distribution == OWN:
            raise
        raise PluginError(plugin, reason_of(error, plugin.module)) from error


def plugin_of(provider: str) -> Plugin:
    """Where a provider type comes from; the built-in ones are described as plugins are. Raises ValueError for an unknown one."""
    if provider in BUILT_IN:
        return Plugin(GROUP, provider, BUILT_IN[provider], OWN, "")
    for plugin in plugins():
        if plugin.name == provider:
            return plugin
    meant = suggestion(provider)
    known = ", ".join(provider_types())
    raise ValueError(
        f"model provider {provider!r} is not known{f'; did you mean {meant!r}?' if meant else ''} (known: {known})"
    )


def load_factory(plugin: Plugin) -> ModelFactory:
    """What makes models of a provider type. Runs the package's code when it is first asked for.

    Raises:
        PluginError: it doesn't load, or can't be called.
    """
    if plugin.distribution == OWN:
        module, _, name = plugin.value.partition(":")
        builtin: ModelFactory = getattr(import_module(module), name)
        return builtin
    factory: ModelFactory = load(plugin, _problem)
    return factory


def plugins() -> list[Plugin]:
    """The provider types of installed packages."""
    return installed(GROUP, reserved=BUILT_IN)


def _problem(factory: Any) -> str:
    return "" if callable(factory) else "is no function that makes a model of (config, services)"
