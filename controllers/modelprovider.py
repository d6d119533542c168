"""ModelProvider: a service that runs models, and the key to it.

How a ModelProvider is read, and the controller that finds out whether its key is there, whether the service takes it, and
which models it has. The schema is `crds/modelproviders.yaml`. The key is always a reference; no spec ever holds one, and no
status more than a digest of it. No model is called: the service is asked for its list now and then, and at once when its key
or its spec changes. It not being reached makes nothing unready, since networks come and go; its refusing the key does.

Read next: `controllers/model.py`, which names a provider.
"""

from typing import Any, Literal

from pydantic import Field

from kastra.api.durations import parse_duration
from kastra.api.errors import INVALID, Cause
from kastra.api.types import Reference
from kastra.clock import parse_rfc3339, rfc3339
from kastra.config import Settings
from kastra.model.catalog import Catalog, Unavailable
from kastra.model.check import plugin_problem, provider_findings
from kastra.model.dialects import DIALECTS, dialect_of
from kastra.netguard import Policy
from kastra.netguard.preview import refusal
from kastra.runtime.declarative import Context, controller
from kastra.runtime.readiness import examine, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.value_sources import Values, examine_values
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import required
from kastra.runtime.view_types import Duration, NamedValues, ValueFrom

POLL = 600.0
"""Seconds between two questions for a provider's models."""
SOON = 2.0
"""Seconds until a provider is asked that is new, or whose process is: longer than a command on the command line waits for
controllers, so that nobody waits for a network that is away."""
_REFUSED = "Unauthorized"
"""The reason for which no call can succeed."""


class Tls(Fields):
    """How the service is trusted."""

    ca_from: ValueFrom | None = None


class RateLimits(Fields):
    """Limits to keep to."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None


class DialectCorrections(Fields):
    """How the service differs from what its type says."""

    max_tokens_field: str | None = None
    structured_output: Literal["json_schema", "json_object", "tool", "prompt"] | None = None
    stream_usage: bool | None = None
    reasoning_fields: list[str] | None = None
    reasoning_back: bool | None = None
    images: Literal["url", "data", "none"] | None = None
    files: bool | None = None
    ignored_parameters: list[str] | None = None


class ModelProviderSpec(Fields):
    """The normal form of a ModelProvider's spec."""

    type: str
    base_url: str | None = Field(default=None, alias="baseURL")
    allow_private: bool = False
    api_key_from: ValueFrom | None = None
    headers: NamedValues = Field(default_factory=list)
    tls: Tls | None = None
    rate_limits: RateLimits | None = None
    proxy: str | None = None
    dialect: DialectCorrections | None = None
    poll_interval: Duration | None = None
    suspend: bool = False


class ModelProviderView(View, kind="ModelProvider"):
    """A ModelProvider, read."""

    spec: ModelProviderSpec

    def references(self) -> list[Reference]:
        """Everything this provider refers to."""
        return self.sources()

    def sources(self) -> list[Reference]:
        """The Secrets and ConfigMaps whose values this provider uses."""
        return [reference for path, value in self.values() for reference in value.sources(path)]

    def values(self) -> list[tuple[str, ValueFrom]]:
        """Every value that comes from elsewhere, with its path."""
        used = [("spec.apiKeyFrom", self.spec.api_key_from)]
        used += [(f"spec.headers[{index}].valueFrom", h.value_from) for index, h in enumerate(self.spec.headers)]
        if self.spec.tls is not None:
            used.append(("spec.tls.caFrom", self.spec.tls.ca_from))
        return [(path, value) for path, value in used if value is not None]

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        spec = self.spec
        found = []
        for name, alias in (("tls", "tls"), ("proxy", "proxy"), ("dialect", "dialect")):
            if name in spec.model_fields_set and spec.type not in DIALECTS:
                found.append(f"spec.{alias}")
        return found


def validate(view: ModelProviderView) -> list[Cause]:
    """What is wrong with a ModelProvider beyond what its schema says."""
    spec = view.spec
    found = provider_findings(spec.type, "spec.type")
    if spec.type == "openai-compatible" and not spec.base_url:
        found.append(required("spec.baseURL", "an openai-compatible provider has no address of its own"))
    if spec.type == "vllm" and not spec.base_url:
        found.append(required("spec.baseURL", "vLLM has no address of its own"))
    if spec.dialect is not None and spec.type in DIALECTS:
        try:
            dialect_of(spec.type, spec.dialect.model_dump(by_alias=True, exclude_none=True))
        except ValueError as error:
            field, _, reason = str(error).partition(": ")
            found.append(Cause(INVALID, f"Invalid value: {reason}", f"spec.{field}"))
    if spec.proxy is not None and refusal(spec.proxy, _ANYWHERE, allow_private=True):
        found.append(Cause(INVALID, "Invalid value: must be http://host:port without user information", "spec.proxy"))
    return found


_ANYWHERE = Policy()


@controller(ModelProviderView, watches=("Secret", "ConfigMap"), concurrency=16)
async def reconcile(provider: ModelProviderView, ctx: Context) -> Result:
    """Find out whether everything that a call needs is there."""
    spec = provider.spec
    found = await examine(provider, ctx)
    values = examine_values(
        [(path, value.plain()) for path, value in provider.values()],
        found.resolution,
        ctx.service(Settings).project,
        provider.metadata.uid,
    )
    problem = found.message if found.reason else listed(values.missing)
    rotated = _report_secret(ctx, values, problem)
    if spec.suspend:
        return suspended(ctx)
    if problem:
        return ctx.not_ready(found.reason or "SecretNotResolved", problem)
    if unknown := provider_findings(spec.type, "spec.type"):
        return ctx.not_ready("UnknownProvider", f"spec.type: {unknown[0].message}")
    if failure := await plugin_problem(spec.type):
        return ctx.not_ready("PluginFailed", f"spec.type: {failure}")
    if spec.base_url is not None:
        refused = refusal(spec.base_url, ctx.service(Policy), allow_private=spec.allow_private)
        if refused is not None:
            return ctx.not_ready("AddressRefused", f"spec.baseURL: {refused}")
    wait, refused_key = await _ask(provider, ctx, rotated)
    if refused_key:
        return ctx.not_ready(_REFUSED, refused_key, requeue_after=wait)
    ctx.ready(f"{spec.type}; {found.message}", "Resolved")
    return Result(requeue_after=wait)


async def _ask(provider: ModelProviderView, ctx: Context, rotated: bool) -> tuple[float | None, str]:
    """Ask for the models if it is time to.

    Returns the seconds until it is again, None for never, and why the key is refused, an empty text if it isn't.
    """
    spec = provider.spec
    interval = POLL if spec.poll_interval is None else parse_duration(spec.poll_interval)
    if not Catalog.offers(spec.type) or interval <= 0:
        ctx.condition("Reachable", None, "NotAsked", "this provider is not asked for its models")
        ctx.condition("ModelsDiscovered", None, "NotAsked", "this provider is not asked for its models")
        return None, ""
    before = _condition(ctx, "Reachable")
    if before is None:
        # First say that it can be used: whoever has just applied it doesn't wait for the network.
        ctx.condition("Reachable", None, "NotAsked", "the provider is about to be asked for its models")
        ctx.condition("ModelsDiscovered", None, "NotAsked", "the provider is about to be asked for its models")
        return SOON, ""
    asked = ctx.status.last_discovery_time
    if asked and not rotated and before.get("observedGeneration") == provider.metadata.generation:
        left = interval - (ctx.clock.now() - parse_rfc3339(asked)).total_seconds()
        if left > 0:
            return float(left), _refusal(before)
    catalog = ctx.service(Catalog)
    if catalog.age() < SOON:
        # Forgotten, so that the next pass asks even if it is a changed key that led to this one.
        ctx.status.last_discovery_time = None
        return SOON, _refusal(before)
    ctx.status.last_discovery_time = rfc3339(ctx.clock.now())
    try:
        names = await catalog.models(_plain(spec), ctx.object.namespace)
    except Unavailable as error:
        _unavailable(ctx, error, before)
        return float(interval), error.message if error.reason == _REFUSED else ""
    else:
        ctx.status.discovered_models, ctx.status.model_count = names, len(names)
        ctx.condition("Reachable", True, "Answered", "the provider answered")
        ctx.condition("ModelsDiscovered", True, "Listed", f"it lists {len(names)} models")
        if before.get("status") == "False":
            ctx.event("ProviderReachable", "the provider answers again")
    return float(interval), ""


def _refusal(found: dict[str, Any]) -> str:
    return str(found.get("message")) if found.get("reason") == _REFUSED else ""


def _unavailable(ctx: Context, error: Unavailable, before: dict[str, Any]) -> None:
    answered = error.reason == "NotOffered"
    ctx.condition("ModelsDiscovered", False, error.reason, error.message)
    ctx.condition("Reachable", answered, "Answered" if answered else error.reason, error.message)
    if not answered and (before.get("status"), before.get("reason")) != ("False", error.reason):
        ctx.event("ProviderUnreachable", f"{error.reason}: {error.message}", "Warning")


def _condition(ctx: Context, type_: str) -> dict[str, Any] | None:
    return next((dict(c) for c in ctx.status.conditions or () if c.get("type") == type_), None)


def _plain(spec: ModelProviderSpec) -> dict[str, Any]:
    return spec.model_dump(by_alias=True, exclude_none=True)


def _report_secret(ctx: Context, values: Values, problem: str) -> bool:
    """The condition SecretResolved and the digest by which a changed key is seen; the key itself is read at each call.

    Returns whether a value has changed.
    """
    before = ctx.status.secret_hash
    ctx.status.secret_hash = None if problem else values.digest or None
    if problem:
        ctx.condition("SecretResolved", False, "NotFound", problem)
        return False
    message = "every value is there" if values.digest else "no value comes from elsewhere"
    ctx.condition("SecretResolved", True, "Resolved", message)
    if before and values.digest and before != values.digest:
        ctx.event("SecretChanged", "a value that calls are made with has changed; calls from now on use the new one")
        return True
    return False
