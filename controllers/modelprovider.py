"""ModelProvider: a service that runs models, and the key to it.

How a ModelProvider is read, and the controller that finds out whether its key is there. The schema is
`crds/modelproviders.yaml`. The key is always a reference; no spec ever holds one, and no status more than a digest of it.
The service itself isn't called. Read next: `controllers/model.py`, which names a provider.
"""

from pydantic import Field

from kastra.api.errors import Cause
from kastra.api.types import Reference
from kastra.config import Settings
from kastra.model.check import plugin_problem, provider_findings
from kastra.netguard import Policy
from kastra.netguard.preview import refusal
from kastra.runtime.declarative import Context, controller
from kastra.runtime.readiness import examine, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.value_sources import Values, examine_values
from kastra.runtime.view import Fields, View
from kastra.runtime.view_errors import required
from kastra.runtime.view_types import NamedValues, ValueFrom


class Tls(Fields):
    """How the service is trusted."""

    ca_from: ValueFrom | None = None


class RateLimits(Fields):
    """Limits to keep to."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None


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
        return [f"spec.{path}" for name, path in _NOT_ACTED_ON.items() if name in self.spec.model_fields_set]


_NOT_ACTED_ON = {"tls": "tls", "rate_limits": "rateLimits", "proxy": "proxy"}


def validate(view: ModelProviderView) -> list[Cause]:
    """What is wrong with a ModelProvider beyond what its schema says."""
    spec = view.spec
    found = provider_findings(spec.type, "spec.type")
    if spec.type == "openai-compatible" and not spec.base_url:
        found.append(required("spec.baseURL", "an openai-compatible provider has no address of its own"))
    return found


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
    _report_secret(ctx, values, problem)
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
    return ctx.ready(f"{spec.type}; {found.message}", "Resolved")


def _report_secret(ctx: Context, values: Values, problem: str) -> None:
    """The condition SecretResolved and the digest by which a changed key is seen; the key itself is read at each call."""
    before = ctx.status.secret_hash
    ctx.status.secret_hash = None if problem else values.digest or None
    if problem:
        ctx.condition("SecretResolved", False, "NotFound", problem)
        return
    message = "every value is there" if values.digest else "no value comes from elsewhere"
    ctx.condition("SecretResolved", True, "Resolved", message)
    if before and values.digest and before != values.digest:
        ctx.event("SecretChanged", "a value that calls are made with has changed; calls from now on use the new one")
