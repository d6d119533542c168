"""Models, their providers and keys: `model` of agents, `providers` of a configuration, and the kind LLM.

A model without a key or address of its own stays where it is used. One with either becomes a Model and a ModelProvider, since
that is where a key can be referred to. Read next: `kastra.migrate.agents`.
"""

from typing import Any

from kastra.api.meta import DEFAULT_NAMESPACE
from kastra.model.providers import provider_types

from .context import Context, Draft
from .naming import object_name, reference
from .node import Node

_KEYS = ("apiKey", "api_key", "apikey", "key", "token", "apiKeyFrom")
_ADDRESS = ("baseURL", "baseUrl", "base_url", "endpoint", "url")
_PARAMETERS = (
    "temperature",
    "maxTokens",
    "topP",
    "topK",
    "frequencyPenalty",
    "presencePenalty",
    "seed",
    "stop",
    "stopSequences",
)
_RENAMED = {"max_tokens": "maxTokens", "top_p": "topP", "maxOutputTokens": "maxTokens"}
_GUESSES = (("gpt-", "openai"), ("o1", "openai"), ("o3", "openai"), ("deepseek-", "deepseek"))
STUB_ADDRESS = "https://not-migrated.invalid"
"""An address that leads nowhere, for good: RFC 2606 reserves the domain."""
_OTHERS = {
    "openai_compatible": "openai-compatible",
    "openaiCompatible": "openai-compatible",
    "custom": "openai-compatible",
}


def provider(ctx: Context, node: Node, name: str, namespace: str, kind: str = "") -> Draft | None:
    """A ModelProvider of what a configuration says about a provider.

    Args:
        kind: type of the provider if the node doesn't say.
    """
    draft = ctx.draft("ModelProvider", name, namespace, node)
    if draft is None:
        return None
    given = node.get("type", "provider")
    wanted = (given.text if given is not None else kind) or name
    wanted = _OTHERS.get(wanted, wanted)
    address = node.get(*_ADDRESS)
    spec = draft.spec
    spec["type"] = wanted
    if address is not None:
        if "${" in address.text or "{{" in address.text or not address.text:
            ctx.stub(draft, address, "the address depends on a variable", "write the address")
            spec["baseURL"] = STUB_ADDRESS
        else:
            spec["baseURL"] = address.value
    if wanted not in provider_types():
        spec.update(type="openai-compatible", baseURL=STUB_ADDRESS)
        advice = "use a service that speaks OpenAI's protocol, or install a package that adds the provider"
        ctx.stub(draft, given or node, f'there is no provider "{wanted}"', advice)
    elif wanted == "openai-compatible" and "baseURL" not in spec:
        spec["baseURL"] = STUB_ADDRESS
        ctx.stub(draft, node, "the provider has no address", "set baseURL")
    key = node.get(*_KEYS)
    if key is not None:
        source = ctx.secrets.source(ctx, key, draft.name, namespace)
        if source is not None:
            spec["apiKeyFrom"] = source
        else:
            ctx.stub(draft, key, "the key isn't a text", "refer to a Secret with apiKeyFrom")
    headers = node.get("headers")
    if headers is not None:
        spec["headers"] = named_values(ctx, draft, headers)
    options = node.get("options", "config")
    if options is not None and isinstance(options.value, dict):
        for left in options.untaken():
            ctx.dropped(draft.about, left)
    elif options is not None:
        ctx.dropped(draft.about, options)
    for models in filter(None, (node.get("models"), node.get("defaultModel"))):
        ctx.dropped(draft.about, models, "a provider doesn't list its models", "name the model in the agent")
    ctx.rest(node, draft)
    return draft


def llm(ctx: Context, node: Node, name: str, namespace: str) -> Draft | None:
    """The kind LLM: a Model, and the ModelProvider that it needs."""
    kind = node.get("provider")
    chosen = node.get("model", "modelName", "modelId")
    draft = ctx.draft("Model", name, namespace, node)
    if draft is None:
        return None
    ctx.models.add((namespace, draft.name))
    options = node.get("options", "config")
    spec = draft.spec
    spec["providerRef"] = _provider_for(
        ctx, node, kind.text if kind is not None else "", draft.name, namespace, options
    )
    spec["name"] = chosen.text if chosen is not None else ""
    if not spec["name"]:
        spec["name"] = "not-migrated"
        ctx.stub(draft, chosen or node, "the model has no name", "set spec.name")
    parameters = _parameters(ctx, draft.about, node, options)
    if parameters:
        spec["parameters"] = parameters
    ctx.rest(node, draft)
    return draft


def _provider_for(ctx: Context, node: Node, kind: str, owner: str, namespace: str, options: Node | None) -> str:
    """The name of the ModelProvider of a model with `node`'s key and address."""
    own = node.has(*_KEYS, *_ADDRESS) or (options is not None and options.has(*_KEYS, *_ADDRESS))
    wanted = object_name(kind) or owner
    if not own:
        made = ctx.drafts.get(("ModelProvider", namespace, wanted))
        if (namespace, wanted) in ctx.providers or (made is not None and "apiKeyFrom" not in made.spec):
            return wanted
    fields: dict[str, Any] = {}
    found = node
    for part in filter(None, (node, options)):
        for key in (*_KEYS, *_ADDRESS, "headers"):
            if part.has(key) and key not in fields:
                fields[key] = part.peek(key)
                part.get(key)
                found = part
    # A key or an address of its own must not become everybody's.
    name = owner if own else wanted
    made = provider(ctx, Node(fields, found.origin, found.path), name, namespace, kind)
    return made.name if made is not None else name


def _parameters(ctx: Context, about: str, node: Node, *more: Node | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    inner = node.get("parameters", "params", "settings")
    for part in (inner, *more):
        if part is None:
            continue
        if not isinstance(part.value, dict):
            ctx.dropped(about, part, "isn't a mapping")
            continue
        for left in part.untaken():
            name = str(left.path[-1])
            if name in (*_KEYS, *_ADDRESS, "headers"):
                continue
            found.setdefault(_RENAMED.get(name, name), left.value)
    for name in (*_PARAMETERS, *_RENAMED):
        value = node.get(name)
        if value is not None:
            found.setdefault(_RENAMED.get(name, name), value.value)
    return found


def choose(ctx: Context, draft: Draft, node: Node, extra: dict[str, Any]) -> dict[str, Any]:
    """The fields `model` or `modelRef` (and `fallbacks`) for what an agent or a router says about its model.

    Args:
        extra: parameters that stand beside the model; the model's own win.
    """
    if isinstance(node.value, list):
        choices = [choose(ctx, draft, node.child(index), extra) for index in range(len(node.value))]
        choices = [choice for choice in choices if choice]
        if not choices:
            return {}
        rest = [choice.get("model", {"modelRef": choice.get("modelRef")}) for choice in choices[1:]]
        return {**choices[0], **({"fallbacks": rest} if rest else {})}
    if isinstance(node.value, str):
        return _named(ctx, draft, node, node.value, "", extra)
    if not isinstance(node.value, dict):
        ctx.stub(draft, node, "isn't a model", "set spec.model")
        return {}
    referred = node.get("modelRef", "llmRef", "ref", "$ref")
    if referred is not None:
        found = reference(referred.value)
        if found:
            return {"modelRef": found}
    kind = node.get("provider", "type")
    chosen = node.get("name", "model", "modelId", "id")
    provider_name = kind.text if kind is not None else ""
    name = chosen.text if chosen is not None else ""
    options = node.get("options", "config")
    address = node.has(*_KEYS, *_ADDRESS) or (options is not None and options.has(*_KEYS, *_ADDRESS))
    if address:
        parameters = {**extra, **_parameters(ctx, draft.about, node, options)}
        owner = f"{draft.name}-model"
        made = ctx.draft("Model", owner, draft.namespace, node)
        if made is not None:
            made.spec["providerRef"] = _provider_for(ctx, node, provider_name, owner, draft.namespace, options)
            made.spec["name"] = name or "not-migrated"
            if not name:
                ctx.stub(made, node, "the model has no name", "set spec.name")
            if parameters:
                made.spec["parameters"] = parameters
        _leftovers(ctx, draft, node)
        return {"modelRef": owner}
    parameters = {**extra, **_parameters(ctx, draft.about, node, options)}
    _leftovers(ctx, draft, node)
    return _named(ctx, draft, chosen or node, name, provider_name, parameters)


def _leftovers(ctx: Context, draft: Draft, node: Node) -> None:
    for left in node.untaken():
        ctx.dropped(draft.about, left)


def _named(ctx: Context, draft: Draft, node: Node, name: str, kind: str, parameters: dict[str, Any]) -> dict[str, Any]:
    namespace = draft.namespace
    if not kind and (namespace, object_name(name)) in ctx.models:
        if parameters:
            ctx.dropped(
                draft.about, node, "parameters beside a reference have no counterpart", "put them into the Model"
            )
        return {"modelRef": object_name(name)}
    if not kind and "/" in name:
        kind, _, name = name.partition("/")
    if not kind:
        kind = next((guess for prefix, guess in _GUESSES if name.startswith(prefix)), "")
        if kind:
            ctx.note("note", draft.about, node, f'no provider is named; "{kind}" is assumed')
    if "${" in name or "{{" in name or "${" in kind:
        ctx.stub(draft, node, "the model depends on a variable", "set spec.model")
        return {}
    declared = object_name(kind)
    if kind and (namespace, declared) in ctx.providers and name:
        return {"modelRef": _shared(ctx, namespace, node, declared, name, parameters)}
    if kind and ("", declared) in ctx.providers and name:
        ctx.note(
            "note", draft.about, node, f'the provider "{declared}" has no namespace; "{DEFAULT_NAMESPACE}" is assumed'
        )
        shared = _shared(ctx, "", node, declared, name, parameters)
        return {"modelRef": {"name": shared, "namespace": DEFAULT_NAMESPACE}}
    kind = _OTHERS.get(kind, kind)
    if kind not in provider_types() or (not name and kind != "scripted"):
        missing = (
            f'there is no provider "{kind}"'
            if kind and kind not in provider_types()
            else "the model isn't named with its provider"
        )
        ctx.stub(draft, node, missing, "set spec.model, or refer to a Model with spec.modelRef")
        return {}
    model: dict[str, Any] = {"provider": kind, **({"name": name} if name else {})}
    return {"model": {**model, **({"parameters": parameters} if parameters else {})}}


def _shared(ctx: Context, namespace: str, node: Node, provider_name: str, name: str, parameters: dict[str, Any]) -> str:
    """The Model of a declared provider with these parameters, made at its first use."""
    spec: dict[str, Any] = {
        "providerRef": provider_name,
        "name": name,
        **({"parameters": parameters} if parameters else {}),
    }
    wanted = object_name(f"{provider_name}-{name}".replace("/", "-").replace(":", "-")) or provider_name
    number, candidate = 2, wanted
    while (found := ctx.drafts.get(("Model", namespace, candidate))) is not None:
        if found.spec == spec:
            return candidate
        candidate, number = f"{wanted}-{number}", number + 1
    ctx.draft("Model", candidate, namespace, node, spec)
    return candidate


def named_values(ctx: Context, draft: Draft, node: Node) -> dict[str, Any]:
    """Headers: what is a key or comes from the environment becomes a reference."""
    from .secrets import is_key_name, variable

    found: dict[str, Any] = {}
    for name, value in node.entries():
        if not name:
            ctx.dropped(draft.about, value, "is no header with a name")
            continue
        given = value.child("value") if isinstance(value.value, dict) and "value" in value.value else value
        text = given.value
        if isinstance(given.value, dict) or variable(text) or (is_key_name(name) and "{{" not in given.text):
            source = ctx.secrets.source(
                ctx, given, f"{draft.name}-headers", draft.namespace, object_name(name) or "value"
            )
            if source is None:
                ctx.dropped(draft.about, value, "is no header's value")
            else:
                found[name] = {"valueFrom": source}
        elif isinstance(text, (str, int, float)) and not isinstance(text, bool):
            from .paths import Scope

            found[name] = (
                ctx.rewritten(draft, given, Scope(prompt=True), variables=False).value
                if isinstance(text, str)
                else str(text)
            )
        else:
            ctx.dropped(draft.about, value, "is no header's value")
    return found
