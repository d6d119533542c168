"""Model: a model of a provider, with its parameters, its price and what to ask when it fails.

How a Model is read, and the controller that finds out whether it could be asked. The schema is `crds/models.yaml`.
No model is asked here. Read next: `controllers/modelprovider.py`.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kastra.api.errors import INVALID, Cause
from kastra.api.object import Object
from kastra.api.types import Reference
from kastra.model.check import model_findings
from kastra.model.dialects import ignored
from kastra.runtime.declarative import Context, controller
from kastra.runtime.manager import Manager
from kastra.runtime.namespaces import look_again_when_namespaces_change
from kastra.runtime.readiness import EARLY, examine, listed, suspended
from kastra.runtime.reconcile import Result
from kastra.runtime.view import Fields, View
from kastra.runtime.view_types import Fallback, Ref


class Price(Fields):
    """US dollars per million tokens."""

    in_: float | None = Field(default=None, alias="in")
    out: float | None = None
    cached: float | None = None
    cache_write: float | None = None


def _off(value: Any) -> Any:
    # Half of the world's YAML readers take a bare `off` for false.
    return "off" if value is False else value


class Cassette(Fields):
    """Recorded answers: made, used, used where there are some, or neither."""

    mode: Annotated[Literal["off", "record", "replay", "auto"], BeforeValidator(_off)] = "off"
    path: str | None = None
    ref: str | None = None


class RateLimits(Fields):
    """Limits to keep to, on top of the provider's."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None


class ModelSpec(Fields):
    """The normal form of a Model's spec."""

    provider_ref: Ref
    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    capabilities: list[str] = Field(default_factory=list)
    price: Price | None = None
    rate_limits: RateLimits | None = None
    fallbacks: list[Fallback] = Field(default_factory=list)
    routing: dict[str, Any] | None = None
    cassette: Cassette | None = None
    suspend: bool = False


class ModelView(View, kind="Model"):
    """A Model, read."""

    spec: ModelSpec

    def references(self) -> list[Reference]:
        """Everything this model refers to."""
        found = [self.spec.provider_ref.to("ModelProvider", "spec.providerRef")]
        for index, fallback in enumerate(self.spec.fallbacks):
            if fallback.model_ref is not None:
                found.append(fallback.model_ref.to("Model", f"spec.fallbacks[{index}].modelRef"))
        return found

    def unsupported(self) -> list[str]:
        """Paths of the fields that are given, accepted, and not acted on by this version."""
        return ["spec.routing"] if self.spec.routing is not None else []


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def validate(view: ModelView) -> list[Cause]:
    """What is wrong with a Model beyond what its schema says."""
    found: list[Cause] = []
    for index, fallback in enumerate(view.spec.fallbacks):
        if (choice := fallback.choice) is not None:
            found += model_findings(choice.provider, choice.name, choice.parameters, f"spec.fallbacks[{index}]")
    cassette = view.spec.cassette
    path = cassette.path if cassette is not None else None
    if path is not None and (path.startswith(("/", "~")) or ".." in path.replace("\\", "/").split("/")):
        message = "Invalid value: must be a path below the project folder, without .."
        found.append(Cause(INVALID, message, "spec.cassette.path"))
    if cassette is not None and cassette.ref is not None and not _PLAIN.fullmatch(cassette.ref):
        found.append(Cause(INVALID, "Invalid value: must be a plain name; use path for a path", "spec.cassette.ref"))
    return found


@controller(ModelView, watches=("ModelProvider", "Model"), concurrency=16)
async def reconcile(model: ModelView, ctx: Context) -> Result:
    """Find out whether the model could be asked."""
    found = await examine(model, ctx)
    if found.early:
        return ctx.look_later(EARLY)
    provider = found.resolution.resolved.get("spec.providerRef")
    type_ = provider.spec.get("type") if provider is not None else None
    ctx.status.provider = type_
    if model.spec.suspend:
        return suspended(ctx)
    if found.reason:
        return ctx.not_ready(found.reason, found.message)
    problems = model_findings(str(type_), model.spec.name, model.spec.parameters, "spec")
    if problems:
        return ctx.not_ready("InvalidModel", listed(f"{cause.field}: {cause.message}" for cause in problems))
    assert provider is not None
    _report_parameters(model, str(type_), provider.spec.get("dialect"), ctx)
    _report_listed(model, provider.status.get("discoveredModels") or (), ctx)
    return ctx.ready(f"{model.spec.name} of {type_}", "Resolved")


def _report_parameters(model: ModelView, type_: str, corrections: Any, ctx: Context) -> None:
    """The condition ParametersAccepted: a parameter that the provider doesn't know is not sent, and that is said here."""
    unsent = ignored(type_, model.spec.parameters, corrections)
    if unsent:
        message = f"{type_} doesn't take {', '.join(unsent)}; not sent"
        ctx.condition("ParametersAccepted", False, "Ignored", message)
    else:
        ctx.condition("ParametersAccepted", True, "Accepted", "every parameter is sent")


def _report_listed(model: ModelView, known: Sequence[str], ctx: Context) -> None:
    """The condition Listed. A name that isn't listed may still be an alias of one that is, so nothing is unready for it."""
    name = model.spec.name
    if not known:
        ctx.condition("Listed", None, "NotDiscovered", "the provider's models are not known")
    elif name in known or (":" not in name and f"{name}:latest" in known):
        ctx.condition("Listed", True, "Listed", "the provider lists it")
    else:
        near = next(iter(difflib.get_close_matches(name, known, n=1)), "")
        meant = f"; did you mean {near!r}?" if near else ""
        message = f"the provider lists {len(known)} models and {name!r} is not among them{meant}"
        before: Mapping[str, Any] = next((c for c in ctx.status.conditions or () if c.get("type") == "Listed"), {})
        ctx.condition("Listed", False, "UnknownModel", message)
        if before.get("reason") != "UnknownModel":
            ctx.event("UnknownModel", message, "Warning")


def setup(manager: Manager) -> None:
    """Namespaces decide which references across them are allowed, and providers which models there are."""
    look_again_when_namespaces_change(manager, "model", "Model")

    def listing_changed(old: Object | None, new: Object | None) -> None:
        if old is None or new is None or old.status.get("discoveredModels") == new.status.get("discoveredModels"):
            return
        for request in referring(new):
            manager.enqueue("model", request, f"ModelProvider/{new.name}")

    referring = manager.referring("Model", "ModelProvider")
    manager.cache.informer("ModelProvider").add_handler(listing_changed)
