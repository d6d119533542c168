"""Values that the views of several kinds have in common: references, durations, models, secretable values, budgets.

A node that the CRD leaves open because it accepts several shapes (`agent: x` or `agent: {name: x}`) is parsed here into
its one normal form. Such nodes are `Closed`: the CRD can't name their fields, so an unknown one is refused here. These
types hold no behaviour beyond reading; whether a name leads somewhere is `kastra.runtime.references`' question.

Read next: `controllers/agent.py`, which is built of them.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from kastra.api.durations import parse_duration
from kastra.api.types import Reference

from .view import Fields
from .view_errors import causes, forbidden, invalid, shape_error, unknown_field

KINDS_BY_PLURAL = {
    "agents": "Agent",
    "tools": "Tool",
    "workflows": "Workflow",
    "networks": "Network",
    "models": "Model",
    "modelproviders": "ModelProvider",
    "mcpservers": "MCPServer",
    "knowledgebases": "KnowledgeBase",
}
"""What the first half of `agents/x` can be; anything else before a slash is a namespace."""


def _duration(value: Any) -> Any:
    parse_duration(value)
    return value if isinstance(value, str) else f"{value}s"


Duration = Annotated[str, BeforeValidator(_duration)]
"""`30s`, `1h30m`, `PT1H`, or an integer of seconds, which reads as `<n>s`."""


FieldsType = TypeVar("FieldsType", bound=Fields)


def read(cls: type[FieldsType], data: Any, at: str) -> FieldsType:
    """`data` as a `cls`, inside a validator; a finding is reported below the field path `at`."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise shape_error(causes(error, at)[0]) from error


class Closed(Fields):
    """A node that the CRD leaves open: every key must be a field of this class."""

    _known: ClassVar[Sequence[str]] = ()

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            if "_known" not in vars(cls):
                # Not when the class is made: what its fields are called is certain once something is read by it.
                cls._known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in cls._known:
                    raise shape_error(unknown_field(str(key), cls._known, str(key)))
        return data


class Renamed(Fields):
    """A spec that accepts other names for some of its fields; `also` maps each to the field's own name."""

    also: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or cls.also.keys().isdisjoint(data):
            return data
        renamed = dict(data)
        for other, name in cls.also.items():
            if other in renamed:
                if name in renamed:
                    raise shape_error(forbidden(f"another name of {name}, which is also given", other))
                renamed[name] = renamed.pop(other)
        return renamed


class Ref(Closed):
    """`{name, namespace?}`; also written as just the name."""

    name: StrictStr = Field(min_length=1)
    namespace: StrictStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    def to(self, kind: str, path: str, *, optional: bool = False) -> Reference:
        """This as a reference that stands at `path` and means a `kind` unless the text says otherwise."""
        return Reference(path=path, kind=kind, name=self.name, namespace=self.namespace or "", optional=optional)


class KindRef(Closed):
    """`{kind, name, namespace?}`."""

    kind: StrictStr
    name: StrictStr = Field(min_length=1)
    namespace: StrictStr | None = None


class KeyRef(Closed):
    """One key of a Secret or ConfigMap in the object's own namespace."""

    name: StrictStr = Field(min_length=1)
    key: StrictStr = Field(min_length=1)
    optional: StrictBool | None = None


class ValueFrom(Closed):
    """Where a value comes from: exactly one source."""

    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None
    env: StrictStr | None = None
    file: StrictStr | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set & set(type(self).model_fields)) != 1:
            raise ValueError("needs exactly one of secretKeyRef, configMapKeyRef, env and file")
        return self

    def sources(self, path: str) -> list[Reference]:
        """The Secret or ConfigMap that the value is in, for a source that stands at `path`."""
        found = []
        if self.secret_key_ref is not None:
            optional = bool(self.secret_key_ref.optional)
            found.append(Reference(f"{path}.secretKeyRef", "Secret", self.secret_key_ref.name, optional=optional))
        if self.config_map_key_ref is not None:
            optional = bool(self.config_map_key_ref.optional)
            found.append(
                Reference(f"{path}.configMapKeyRef", "ConfigMap", self.config_map_key_ref.name, optional=optional)
            )
        return found


class NamedValue(Closed):
    """A header or variable: `value`, or `valueFrom` when it is secret or differs between places."""

    name: StrictStr = Field(min_length=1)
    value: StrictStr | None = None
    value_from: ValueFrom | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("needs exactly one of value and valueFrom")
        return self


def _named_values(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return [
        {"name": name, **entry} if isinstance(entry, Mapping) else {"name": name, "value": entry}
        for name, entry in value.items()
    ]


NamedValues = Annotated[list[NamedValue], BeforeValidator(_named_values)]
"""A list of `{name, value | valueFrom}`, or a map from name to the rest."""

_PARAMETER_SHORTHANDS = ("temperature", "maxTokens", "timeout")


class ModelChoice(Closed):
    """A model of a provider: `provider/name`, or `{provider, name, parameters}`.

    `model` is another name of `name`, `params` of `parameters`; `temperature`, `maxTokens` and `timeout` may stand beside
    them and belong to the parameters.
    """

    provider: StrictStr = Field(min_length=1)
    name: StrictStr = ""
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_short_shapes(cls, data: Any) -> Any:
        if isinstance(data, str):
            provider, slash, name = data.partition("/")
            if not slash or not provider or not name:
                hint = "must be provider/name; a Model object is named by modelRef"
                raise shape_error(invalid(data, hint, ""))
            return {"provider": provider, "name": name}
        if not isinstance(data, Mapping):
            return data
        if "apiKey" in data:
            hint = "a key is never written into a spec; make a ModelProvider with apiKeyFrom and use modelRef"
            raise shape_error(forbidden(hint, "apiKey"))
        shaped = dict(data)
        for other, name in (("model", "name"), ("params", "parameters")):
            if other in shaped:
                if name in shaped:
                    raise shape_error(forbidden(f"another name of {name}, which is also given", other))
                shaped[name] = shaped.pop(other)
        moved = {key: shaped.pop(key) for key in _PARAMETER_SHORTHANDS if key in shaped}
        if moved:
            given = shaped.get("parameters") or {}
            if not isinstance(given, Mapping):
                return shaped
            shaped["parameters"] = {**moved, **given}
        if shaped.get("provider") == "scripted":
            shaped.setdefault("name", "scripted")
        return shaped


class Fallback(Closed):
    """What to ask when the model before it fails: `provider/name`, `{provider, name, parameters}` or `{modelRef}`."""

    provider: StrictStr | None = None
    name: StrictStr | None = None
    parameters: dict[str, Any] | None = None
    model_ref: Ref | None = None
    max_retries: StrictInt | None = Field(default=None, ge=0)
    enabled: StrictBool | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_shapes(cls, data: Any) -> Any:
        if isinstance(data, str):
            return ModelChoice.model_validate(data).plain()
        if not isinstance(data, Mapping):
            return data
        extras = {key: data[key] for key in ("maxRetries", "enabled") if key in data}
        rest = {key: value for key, value in data.items() if key not in extras}
        if "modelRef" in rest:
            if len(rest) > 1:
                raise shape_error(forbidden("exactly one of modelRef and provider", "modelRef"))
            return data
        if isinstance(rest.get("model"), str) and "provider" not in rest and "/" in rest["model"]:
            provider, _, rest["model"] = rest["model"].partition("/")
            rest["provider"] = provider
        return {**ModelChoice.model_validate(rest).plain(), **extras}

    @property
    def choice(self) -> ModelChoice | None:
        """The model, where it isn't a reference to one."""
        if self.provider is None:
            return None
        return ModelChoice(provider=self.provider, name=self.name or "", parameters=self.parameters or {})


class Budget(Fields):
    """Limits of one Run; reaching one has the consequence in `on_exceeded`."""

    max_tokens: int | None = None
    max_cost_usd: float | None = Field(default=None, alias="maxCostUSD")
    max_model_calls: int | None = None
    max_tool_calls: int | None = None
    on_exceeded: Literal["fail", "finish", "suspend"] | None = None


class Retry(Closed):
    """How often and when a failed call is tried again; an integer is `limit`."""

    limit: StrictInt | None = Field(default=None, ge=0)
    initial_interval: Duration | None = None
    backoff: float | None = Field(default=None, ge=1)
    max_interval: Duration | None = None
    max_elapsed: Duration | None = None
    jitter: float | None = Field(default=None, ge=0, le=1)
    when: StrictStr | None = None
    non_retryable: list[StrictStr] | None = None
    respect_retry_after: StrictBool | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_limit(cls, data: Any) -> Any:
        return {"limit": data} if isinstance(data, int) and not isinstance(data, bool) else data


class WorkingMemory(Closed):
    """What an agent keeps about a thread or a user: a Markdown template or a JSON schema it fills in."""

    enabled: StrictBool = True
    template: StrictStr | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    scope: Literal["thread", "resource"] | None = None


class MessageRange(Closed):
    """How many messages around a recalled one come with it."""

    before: StrictInt = Field(default=0, ge=0, le=100)
    after: StrictInt = Field(default=0, ge=0, le=100)

    @model_validator(mode="before")
    @classmethod
    def _from_both(cls, data: Any) -> Any:
        return {"before": data, "after": data} if isinstance(data, int) and not isinstance(data, bool) else data


class SemanticRecall(Closed):
    """Earlier messages found by meaning."""

    enabled: StrictBool = True
    top_k: StrictInt | None = Field(default=None, ge=1, le=100)
    message_range: MessageRange | None = None
    scope: Literal["thread", "resource"] | None = None
    embedder: ModelChoice | None = None
    model_ref: Ref | None = None


class MessageHistory(Closed):
    """How many tokens of earlier messages are sent, and how many more are left out when that is too much."""

    max_tokens: StrictInt | None = Field(default=None, ge=1)
    at_max_remove_tokens: StrictInt | None = Field(default=None, ge=0)


class GenerateTitle(Closed):
    """How threads get a title from what was said first."""

    enabled: StrictBool = True
    model: ModelChoice | None = None
    instructions: StrictStr | None = Field(default=None, min_length=1)
    min_messages: StrictInt | None = Field(default=None, ge=1, le=1000)


def _switch(value: Any) -> Any:
    return {"enabled": value} if isinstance(value, bool) else value


class Memory(Closed):
    """What an agent remembers between calls; a boolean is `enabled`."""

    enabled: StrictBool = True
    type: StrictStr | None = None
    ref: Ref | None = None
    last_messages: StrictInt | None = Field(default=None, ge=0)
    message_history: MessageHistory | None = None
    semantic_recall: Annotated[SemanticRecall | None, BeforeValidator(_switch)] = None
    working_memory: Annotated[WorkingMemory | None, BeforeValidator(_switch)] = None
    generate_title: Annotated[GenerateTitle | None, BeforeValidator(_switch)] = None
    ttl: Duration | None = None
    read_only: StrictBool | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_switch(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("lastMessages") is False:
            return {**data, "lastMessages": 0}
        return _switch(data)


class LabelRequirement(Fields):
    """One requirement of a label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = Field(default_factory=list)


class Selector(Fields):
    """A label selector."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: list[LabelRequirement] = Field(default_factory=list)


class AllowedNamespaces(Fields):
    """From which namespaces an object may be referred to; the shape of Gateway API."""

    from_: Literal["All", "Same", "Selector"] = Field(default="All", alias="from")
    selector: Selector | None = None


def split_plural(name: str, kind: str) -> tuple[str, str]:
    """(kind, name) of a reference's text: `agents/x` says its kind, all else means `kind`."""
    head, slash, rest = name.partition("/")
    return (KINDS_BY_PLURAL[head], rest) if slash and head in KINDS_BY_PLURAL else (kind, name)


def short_name(name: str) -> str:
    """The object's own name in a reference's text: `x` for `agents/x`, `n/x` and `n.x`."""
    tail = name.rpartition("/")[2]
    head, dot, rest = tail.partition(".")
    return rest if dot and rest and head else tail
