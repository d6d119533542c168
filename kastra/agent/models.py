"""Which models does a spec mean, in which order? From `model`, `modelRef` and `fallbacks` to what can be asked.

A model named inline takes its key from the provider's usual variable (`OPENAI_API_KEY`); any other way to give one needs a
ModelProvider. Keys are read at each call, never kept. Read next: `kastra.agent.calls`, which asks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kastra.api.types import ClosureObject
from kastra.engine.step import StepError
from kastra.model.interface import Credentials, CredentialsMissing, ModelConfig
from kastra.model.openai import WIRES
from kastra.model.providers import create

from .calls import ModelEntry
from .services import AgentServices

Lookup = Callable[[str], ClosureObject]
"""The object that the reference at a path leads to. Raises StepError if it isn't part of the closure."""


def refuse(message: str) -> StepError:
    """The error for a spec that can't be executed as it stands."""
    return StepError("validation", message, retryable=False)


def models_of(
    spec: Mapping[str, Any], lookup: Lookup, objects: Mapping[str, ClosureObject], services: AgentServices, where: str
) -> list[ModelEntry]:
    """The model of a plain spec and its fallbacks, first to last; none if it names none.

    Args:
        spec: with any of `model`, `modelRef`, `maxRetries`, `fallbacks`.
        lookup: from a path below `where`, such as `spec.modelRef`.
        objects: the closure's.
        services: for the calls.
        where: path of the spec, such as `spec` or `spec.router`.

    Raises:
        StepError: a model can't be made of what is written (type `validation`).
    """
    entries: list[ModelEntry] = []
    retries = int(spec.get("maxRetries") or 0)
    if spec.get("model") is not None:
        entries.append(_inline(spec["model"], retries, services, f"{where}.model"))
    elif spec.get("modelRef") is not None:
        entries += _referred(lookup(f"{where}.modelRef"), retries, objects, services, set())
    for index, fallback in enumerate(spec.get("fallbacks") or ()):
        entries += _fallback(fallback, f"{where}.fallbacks[{index}]", lookup, objects, services, set())
    return entries


def _fallback(
    fallback: Mapping[str, Any],
    path: str,
    lookup: Lookup,
    objects: Mapping[str, ClosureObject],
    services: AgentServices,
    seen: set[str],
) -> list[ModelEntry]:
    if fallback.get("enabled") is False:
        return []
    retries = int(fallback.get("maxRetries") or 0)
    if fallback.get("modelRef") is not None:
        return _referred(lookup(f"{path}.modelRef"), retries, objects, services, seen)
    return [_inline(fallback, retries, services, path)]


def key_variable(provider: str) -> tuple[str, bool]:
    """The environment variable that holds the key to a provider named inline, and whether it answers no call without."""
    return f"{provider.upper().replace('-', '_')}_API_KEY", provider in WIRES and WIRES[provider].needs_key


def _inline(choice: Mapping[str, Any], retries: int, services: AgentServices, path: str) -> ModelEntry:
    provider: str = choice["provider"]
    variable, needs_key = key_variable(provider)

    async def credentials() -> Credentials:
        try:
            return Credentials(await services.secrets.read({"env": variable}, ""))
        except LookupError:
            if not needs_key:
                return Credentials()
            raise CredentialsMissing(
                f"the variable {variable} is not set; set it where Kastra runs, or make a ModelProvider with apiKeyFrom"
            ) from None

    parameters = choice.get("parameters") or {}
    config = ModelConfig(provider, choice.get("name") or "", parameters=parameters, credentials=credentials)
    return _entry(config, retries, {}, services, path)


def _referred(
    model: ClosureObject, retries: int, objects: Mapping[str, ClosureObject], services: AgentServices, seen: set[str]
) -> list[ModelEntry]:
    """A Model object and, after it, its own fallbacks; one that leads back to itself is taken once."""
    identity = f"{model['namespace']}/{model['name']}"
    if identity in seen:
        return []
    seen.add(identity)
    spec, where = model["spec"], f"Model {identity}"
    lookup = lookup_in(model, objects)
    provider = lookup("spec.providerRef")
    provider_spec = provider["spec"]

    async def credentials() -> Credentials:
        return await _credentials(provider, services)

    config = ModelConfig(
        provider=provider_spec["type"],
        name=spec["name"],
        base_url=provider_spec.get("baseURL") or "",
        parameters=spec.get("parameters") or {},
        allow_private=bool(provider_spec.get("allowPrivate")),
        credentials=credentials,
    )
    price = {name: value for name, value in (spec.get("price") or {}).items() if value is not None}
    entries = [_entry(config, retries, price, services, where)]
    for index, fallback in enumerate(spec.get("fallbacks") or ()):
        entries += _fallback(fallback, f"spec.fallbacks[{index}]", lookup, objects, services, seen)
    return entries


async def _credentials(provider: ClosureObject, services: AgentServices) -> Credentials:
    spec, namespace = provider["spec"], provider["namespace"]
    try:
        source = spec.get("apiKeyFrom")
        key = "" if source is None else await services.secrets.read(source, namespace)
        headers = {
            header["name"]: header["value"]
            if header.get("valueFrom") is None
            else await services.secrets.read(header["valueFrom"], namespace)
            for header in spec.get("headers") or ()
        }
    except LookupError as error:
        message = str(error.args[0]) if error.args else "a secret is missing"
        raise CredentialsMissing(f"ModelProvider {namespace}/{provider['name']}: {message}") from None
    return Credentials(key.strip(), headers)


def _entry(
    config: ModelConfig, retries: int, price: Mapping[str, float], services: AgentServices, where: str
) -> ModelEntry:
    name = f"{config.provider}/{config.name}" if config.name else config.provider
    try:
        return ModelEntry(name, create(config, services.for_models()), {}, retries, price)
    except (ValueError, ImportError) as error:
        raise refuse(f"{where}: {error}") from None


def lookup_in(holder: ClosureObject, objects: Mapping[str, ClosureObject], prefix: str = "") -> Lookup:
    """Follows the references of `holder`; `prefix` is put before each path (`spec.agents[1].` for an inline member)."""

    def lookup(path: str) -> ClosureObject:
        found = objects.get(holder["refs"].get(prefix + path, ""))
        if found is None:
            what = f"{holder['kind']} {holder['namespace']}/{holder['name']}"
            raise refuse(f"{what}: {prefix}{path} leads to nothing that this Run resolved")
        return found

    return lookup
