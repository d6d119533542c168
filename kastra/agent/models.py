"""Which models does a spec mean, in which order? From `model`, `modelRef` and `fallbacks` to what can be asked.

A model named inline takes its key from the provider's usual variable (`OPENAI_API_KEY`); any other way to give one needs a
ModelProvider. Keys are read at each call, never kept. Read next: `kastra.agent.calls`, which asks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kastra.api.types import ClosureObject
from kastra.engine.step import StepError
from kastra.model.cassette import CassetteModel
from kastra.model.dialects import DIALECTS
from kastra.model.interface import Credentials, CredentialsMissing, ModelConfig
from kastra.model.limits import NO_LIMITS, RateLimits
from kastra.model.providers import create

from .calls import ModelEntry
from .model_versions import Made
from .services import AgentServices

Lookup = Callable[[str], ClosureObject]
"""The object that the reference at a path leads to. Raises StepError if it isn't part of the closure."""


def refuse(message: str) -> StepError:
    """The error for a spec that can't be executed as it stands."""
    return StepError("validation", message, retryable=False)


def models_of(
    spec: Mapping[str, Any],
    lookup: Lookup,
    objects: Mapping[str, ClosureObject],
    services: AgentServices,
    where: str,
    *,
    owner: str = "",
) -> list[ModelEntry]:
    """The model of a plain spec and its fallbacks, first to last; none if it names none.

    Args:
        spec: with any of `model`, `modelRef`, `maxRetries`, `fallbacks`.
        lookup: from a path below `where`, such as `spec.modelRef`.
        objects: the closure's.
        services: for the calls.
        where: path of the spec, such as `spec` or `spec.router`.
        owner: whose models they are, for doubles in tests.

    Raises:
        StepError: a model can't be made of what is written (type `validation`).
    """
    if services.doubles is not None and owner:
        return services.doubles.models(owner, lambda: models_of(spec, lookup, objects, services, where))
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
    return f"{provider.upper().replace('-', '_')}_API_KEY", provider in DIALECTS and DIALECTS[provider].needs_key


def _inline(choice: Mapping[str, Any], retries: int, services: AgentServices, path: str) -> ModelEntry:
    config = _inline_config(choice, services)
    return _entry(config, retries, services, path, [(_named(config), NO_LIMITS)])


def _inline_config(choice: Mapping[str, Any], services: AgentServices) -> ModelConfig:
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
    return ModelConfig(provider, choice.get("name") or "", parameters=parameters, credentials=credentials)


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

    def make() -> Made:
        config = _referred_config(model, provider, services)
        its, shared = RateLimits.of(spec.get("rateLimits")), RateLimits.of(provider["spec"].get("rateLimits"))
        limits = [(where, its), (f"ModelProvider {provider['namespace']}/{provider['name']}", shared)]
        price = {name: value for name, value in (spec.get("price") or {}).items() if value is not None}
        entry = _entry(config, retries, services, where, limits, price, spec.get("cassette"))
        return Made(entry, (its, shared), spec, provider["spec"])

    entries = [services.models.of(model, provider, retries, make)]
    for index, fallback in enumerate(spec.get("fallbacks") or ()):
        entries += _fallback(fallback, f"spec.fallbacks[{index}]", lookup, objects, services, seen)
    return entries


def _referred_config(model: ClosureObject, provider: ClosureObject, services: AgentServices) -> ModelConfig:
    spec, provider_spec = model["spec"], provider["spec"]

    async def credentials() -> Credentials:
        return await _credentials(provider, services)

    return ModelConfig(
        provider=provider_spec["type"],
        name=spec["name"],
        base_url=provider_spec.get("baseURL") or "",
        parameters=spec.get("parameters") or {},
        allow_private=bool(provider_spec.get("allowPrivate")),
        credentials=credentials,
        proxy=provider_spec.get("proxy") or "",
        capabilities=frozenset(spec.get("capabilities") or ()),
        dialect={name: value for name, value in (provider_spec.get("dialect") or {}).items() if value is not None},
    )


def config_of(
    choice: Mapping[str, Any],
    lookup: Lookup,
    objects: Mapping[str, ClosureObject],
    services: AgentServices,
    path: str,
    inline: str,
) -> ModelConfig | None:
    """What a spec says of a model that isn't asked for answers, such as an embedder; None if it names none.

    Args:
        choice: with the field `inline` (`{provider, name, parameters}`) or `modelRef`.
        path: of `choice`.
        inline: name of the field.

    Raises:
        StepError: it leads to nothing that this Run resolved (type `validation`).
    """
    if choice.get(inline) is not None:
        return _inline_config(choice[inline], services)
    if choice.get("modelRef") is None:
        return None
    model = lookup(f"{path}.modelRef")
    return _referred_config(model, lookup_in(model, objects)("spec.providerRef"), services)


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
        trusted = (spec.get("tls") or {}).get("caFrom")
        authorities = "" if trusted is None else await services.secrets.read(trusted, namespace)
    except LookupError as error:
        message = str(error.args[0]) if error.args else "a secret is missing"
        raise CredentialsMissing(f"ModelProvider {namespace}/{provider['name']}: {message}") from None
    return Credentials(key.strip(), headers, authorities)


def _named(config: ModelConfig) -> str:
    return f"{config.provider}/{config.name}" if config.name else config.provider


def _entry(
    config: ModelConfig,
    retries: int,
    services: AgentServices,
    where: str,
    limits: Sequence[tuple[str, RateLimits]],
    price: Mapping[str, float] | None = None,
    cassette: Mapping[str, Any] | None = None,
) -> ModelEntry:
    name = _named(config)
    try:
        # Nobody pays for a scripted model; it is recorded only where its Model says so.
        wanted = cassette is not None or config.provider != "scripted"
        recording = services.cassettes.of(cassette, name.replace("/", "-")) if wanted else None
        # What is replayed needs no provider, and so no package of one either.
        model = None if recording is not None and recording.mode == "replay" else create(config, services.for_models())
        limiters = [services.limiters.of(identity, limit) for identity, limit in limits]
        if recording is not None:
            return ModelEntry(name, CassetteModel(model, recording, name), {}, retries, price or {})
        assert model is not None
        return ModelEntry(name, model, {}, retries, price or {}, [] if config.provider == "scripted" else limiters)
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
