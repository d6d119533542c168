"""Which provider types are there? The built-in ones, and those that installed packages add.

A package adds one by an entry point in the group `kastra.models`: its name is the provider type, its value a
`ModelFactory`. A built-in name can't be replaced. Nothing is imported before a model of that type is made.

Read next: `kastra.model.openai`, which makes most of the built-in ones.
"""

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from kastra.model.interface import Model, ModelConfig, ModelFactory, ModelServices

GROUP = "kastra.models"

_BUILT_IN = {
    "scripted": "kastra.model.scripted:create",
    "openai": "kastra.model.openai:create",
    "openai-compatible": "kastra.model.openai:create",
    "deepseek": "kastra.model.openai:create",
    "groq": "kastra.model.openai:create",
    "ollama": "kastra.model.openai:create",
    "openrouter": "kastra.model.openai:create",
}


def provider_types() -> list[str]:
    """The names that `model.provider` and a ModelProvider's `type` may have, sorted."""
    return sorted({*_BUILT_IN, *(point.name for point in _installed())})


def suggestion(provider: str) -> str:
    """The provider type that was probably meant, or an empty text."""
    return next(iter(difflib.get_close_matches(provider, provider_types(), n=1)), "")


def create(config: ModelConfig, services: ModelServices) -> Model:
    """A model of the configured provider type.

    Raises:
        ValueError: there is no such type, or its configuration is wrong.
        ImportError: the package that offers it does not load.
    """
    return _factory(config.provider)(config, services)


def _factory(provider: str) -> ModelFactory:
    if provider in _BUILT_IN:
        module, _, name = _BUILT_IN[provider].partition(":")
        factory: ModelFactory = getattr(import_module(module), name)
        return factory
    for point in _installed():
        if point.name == provider:
            loaded: ModelFactory = point.load()
            return loaded
    meant = suggestion(provider)
    known = ", ".join(provider_types())
    raise ValueError(
        f"model provider {provider!r} is not known{f'; did you mean {meant!r}?' if meant else ''} (known: {known})"
    )


def _installed() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))
