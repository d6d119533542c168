"""Model: a model of a provider, with its parameters, its price and what to ask when it fails.

How a Model is read, and the controller that finds out whether it could be asked. The schema is `crds/models.yaml`.
No model is asked here. Read next: `controllers/modelprovider.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kastra.api.errors import Cause
from kastra.api.types import Reference
from kastra.model.check import model_findings
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


def _off(value: Any) -> Any:
    # Half of the world's YAML readers take a bare `off` for false.
    return "off" if value is False else value


class Cassette(Fields):
    """Recorded answers: made, used, or neither."""

    mode: Annotated[Literal["off", "record", "replay"], BeforeValidator(_off)] = "off"
    ref: str | None = None


class ModelSpec(Fields):
    """The normal form of a Model's spec."""

    provider_ref: Ref
    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    capabilities: list[str] = Field(default_factory=list)
    price: Price | None = None
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
        found = ["spec.routing"] if self.spec.routing is not None else []
        if self.spec.cassette is not None and self.spec.cassette.mode != "off":
            found.append("spec.cassette")
        return found


def validate(view: ModelView) -> list[Cause]:
    """What is wrong with a Model beyond what its schema says."""
    found: list[Cause] = []
    for index, fallback in enumerate(view.spec.fallbacks):
        if (choice := fallback.choice) is not None:
            found += model_findings(choice.provider, choice.name, choice.parameters, f"spec.fallbacks[{index}]")
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
    return ctx.ready(f"{model.spec.name} of {type_}", "Resolved")


def setup(manager: Manager) -> None:
    """Namespaces decide which references across them are allowed."""
    look_again_when_namespaces_change(manager, "model", "Model")
