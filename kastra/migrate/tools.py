"""Tools: `execute`, `functions[]`, `implementation`, `endpoint`, and their schemas, limits and authentication.

What is an HTTP request or a Python function becomes one. JavaScript can't run here: such a tool becomes a stub, whose
program doesn't exist and which therefore is never Ready. No body is ever run to find out what it is. Read next:
`kastra.migrate.agents`.
"""

import ast
import re
from typing import Any

from .context import Context, Draft, duration
from .models import named_values
from .naming import object_name, reference
from .node import Node
from .paths import Scope
from .schemas import schema_of

STUB_COMMAND = "not-migrated"
_ENTRYPOINT = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_MAX_CODE = 100_000
_TODO = "write it in Python, serve it over HTTP, or put it into a program, and remove the annotation"
_ARGUMENTS = Scope(prompt=True)


def tool(ctx: Context, node: Node, name: str, namespace: str) -> list[str]:
    """The Tools of one declaration, by name; several if it holds `functions`."""
    functions = node.get("functions")
    members = list(functions.entries()) if functions is not None else []
    clean = object_name(name)
    if not members:
        draft = ctx.draft("Tool", name, namespace, node)
        if draft is None:
            return []
        _fill(ctx, node, draft)
        return [draft.name]
    shared = {key: node.value[key] for key in node.value if key != "functions"} if isinstance(node.value, dict) else {}
    for key in shared:
        node.get(key)
    made = []
    for function, inner in members:
        own = inner.value if isinstance(inner.value, dict) else {}
        wrapped = own.get("function") if isinstance(own.get("function"), dict) else own
        own_name = function or str((wrapped or {}).get("name") or "")
        joined = Node({**shared, **(wrapped or {})}, inner.origin, inner.path)
        # One function that is named as its tool is the tool.
        whole = len(members) == 1 and object_name(own_name) in ("", clean)
        draft = ctx.draft("Tool", name if whole else f"{name}-{own_name}", namespace, joined)
        if draft is not None:
            _fill(ctx, joined, draft)
            made.append(draft.name)
    ctx.split[namespace, clean] = made
    return made


def stub(ctx: Context, node: Node, name: str, namespace: str, reason: str, extra: dict[str, Any] | None = None) -> str:
    """A Tool that stands for something that could not be converted; its name."""
    draft = ctx.drafts.get(("Tool", namespace, object_name(name)))
    if draft is None:
        draft = ctx.draft("Tool", name, namespace, node, dict(extra or {}))
        if draft is None:
            return object_name(name) or STUB_COMMAND
        draft.spec["process"] = {"command": [STUB_COMMAND]}
        ctx.stub(draft, node, reason, _TODO)
    return draft.name


def _fill(ctx: Context, node: Node, draft: Draft) -> None:
    spec = draft.spec
    described = node.get("description")
    if described is not None:
        spec["description"] = str(described.value)
    for key, names in (
        ("inputSchema", ("inputSchema", "parameters", "schema", "input")),
        ("outputSchema", ("outputSchema", "returns")),
    ):
        given = node.get(*names)
        if given is None:
            continue
        found = schema_of(given)
        if found is None:
            ctx.dropped(draft.about, given, "is no schema", "write a JSON Schema")
        else:
            spec[key] = found
            draft.places["spec", key] = given
    node.get("type", "label", "displayName")
    _body(ctx, node, draft)
    timeout = node.get("timeout", "timeoutMs")
    if timeout is not None:
        time = duration(timeout, milliseconds=True)
        if time is None:
            ctx.dropped(draft.about, timeout, "is no duration")
        else:
            spec["timeout"] = time
    _retry(ctx, node, draft)
    _security(ctx, node, draft)
    approval = node.get("requireApproval", "requiresApproval")
    if approval is not None and isinstance(approval.value, bool):
        spec["requireApproval"] = approval.value
    ctx.rest(node, draft)


def _retry(ctx: Context, node: Node, draft: Draft) -> None:
    given = node.get("retry", "retryPolicy", "retries")
    if given is not None:
        policy = retry_policy(given)
        if policy is None:
            ctx.dropped(draft.about, given, "is no retry policy")
        else:
            draft.spec["retry"] = policy


def retry_policy(node: Node) -> Any:
    """Retries in today's form; times that are numbers are milliseconds. None if the shape isn't known."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    if not isinstance(node.value, dict):
        return None
    limit = node.get("maxRetries", "limit", "attempts", "maxAttempts", "retries")
    if limit is None or isinstance(limit.value, bool) or not isinstance(limit.value, int):
        return None
    policy: dict[str, Any] = {"limit": limit.value}
    for key, names in (
        ("initialInterval", ("retryInterval", "initialInterval", "delay", "interval", "retryDelayMs", "backoffMs")),
        ("maxInterval", ("maxInterval", "maxDelay")),
    ):
        given = node.get(*names)
        time = duration(given, milliseconds=True) if given is not None else None
        if time is not None:
            policy[key] = time
    factor = node.get("backoff", "backoffMultiplier", "factor")
    if factor is not None and isinstance(factor.value, (int, float)) and not isinstance(factor.value, bool):
        policy["backoff"] = factor.value
    return policy if not node.untaken() else None


def _security(ctx: Context, node: Node, draft: Draft) -> None:
    security = node.get("security")
    limit = node.get("rateLimit") or (security.get("rateLimit") if security is not None else None)
    if limit is not None:
        window, most = limit.get("window"), limit.get("maxRequests", "max", "limit")
        time = duration(window, milliseconds=True) if window is not None else None
        if time is None or most is None or not isinstance(most.value, int):
            ctx.dropped(draft.about, limit, "is no rate limit")
        else:
            draft.spec["rateLimit"] = {"window": time, "maxRequests": most.value}
    for left in security.untaken() if security is not None else ():
        ctx.dropped(draft.about, left, "has no counterpart", "restrict who may use the tool with roles")


def _body(ctx: Context, node: Node, draft: Draft) -> None:
    spec = draft.spec
    if (
        any(key in node.value for key in ("http", "python", "process", "mcp", "agent", "workflow"))
        if isinstance(node.value, dict)
        else False
    ):
        for key in ("http", "python", "process", "mcp"):
            given = node.get(key)
            if given is not None:
                spec[key] = given.value
        for key in ("agent", "workflow"):
            given = node.get(key)
            if given is not None and reference(given.value):
                spec[key] = reference(given.value)
        return
    address = node.get("endpoint", "url")
    if address is not None:
        _http(ctx, node, draft, address)
        return
    config = node.get("config")
    inner = config.get("endpoint", "url") if config is not None and isinstance(config.value, dict) else None
    if config is not None and inner is not None:
        _http(ctx, config, draft, inner)
        for left in config.untaken():
            ctx.dropped(draft.about, left)
        _leave(ctx, node, draft)
        return
    for left in config.untaken() if config is not None else ():
        ctx.dropped(draft.about, left)
    implementation = node.get("implementation")
    execute = node.get("execute", "function", "handler", "entrypoint", "code")
    given = implementation or execute
    reason = "it has no body"
    if implementation is not None and isinstance(implementation.value, dict):
        language = implementation.get("language", "type")
        code = implementation.get("code", "source", "entrypoint", "path")
        if language is not None and language.text.lower() in ("python", "py") and code is not None:
            body = _python(code.text)
            if body is not None:
                spec["python"] = body
                return
            reason = "the Python code doesn't define exactly one function"
        else:
            reason = f"{(language.text if language is not None else '') or 'code'} can't run here"
    elif given is not None and given.text:
        body = _python(given.text)
        if body is not None:
            spec["python"] = body
            return
        reason = "JavaScript can't run here"
    spec["process"] = {"command": [STUB_COMMAND]}
    ctx.stub(draft, given or node, reason, _TODO)


def _leave(ctx: Context, node: Node, draft: Draft) -> None:
    for key in ("execute", "implementation", "handler", "code"):
        left = node.get(key)
        if left is not None:
            ctx.dropped(draft.about, left, "is not used beside an address")


def _python(text: str) -> dict[str, str] | None:
    if _ENTRYPOINT.fullmatch(text.strip()):
        return {"entrypoint": text.strip()}
    if "def " not in text or len(text) > _MAX_CODE:
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    functions = [item for item in tree.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {"inline": text} if len(functions) == 1 else None


def _http(ctx: Context, node: Node, draft: Draft, address: Node) -> None:
    properties = (draft.spec.get("inputSchema") or {}).get("properties") or {}
    http: dict[str, Any] = {"url": ctx.rewritten(draft, address, _ARGUMENTS, variables=False).value}
    if isinstance(http["url"], str) and isinstance(properties, dict):
        http["url"] = re.sub(
            r"(?<![{$])\{([A-Za-z_]\w*)\}(?!\})",
            lambda found: f"${{{{ input.{found[1]} }}}}" if found[1] in properties else found[0],
            http["url"],
        )
    method = node.get("method")
    if method is not None:
        if method.text.upper() in _METHODS:
            http["method"] = method.text.upper()
        else:
            ctx.dropped(draft.about, method, "is no HTTP method")
    headers = node.get("headers")
    bearer = _bearer(headers) if headers is not None and not node.has("auth", "authentication") else None
    if headers is not None and bearer is not None:
        headers = headers.without(str(bearer.path[-1]))
        source = ctx.secrets.source(ctx, bearer, draft.name, draft.namespace)
        if source is not None:
            http["auth"] = {"type": "bearer", "valueFrom": source}
    if headers is not None and headers.value:
        http["headers"] = named_values(ctx, draft, headers)
    body = node.get("body")
    if body is not None:
        http["body"] = ctx.rewritten(draft, body, _ARGUMENTS, variables=False).value
    auth = node.get("auth", "authentication")
    if auth is not None:
        found = _auth(ctx, draft, auth)
        if found is not None:
            http["auth"] = found
    draft.spec["http"] = http
    draft.places["spec", "http"] = address


def _bearer(node: Node) -> Node | None:
    """The token of a header `Authorization: Bearer ...` as a value of its own; None if there is no such header."""
    for name, value in node.entries():
        if name.lower() == "authorization" and value.text.startswith("Bearer ") and "{{" not in value.text:
            return Node(value.text.removeprefix("Bearer ").strip(), value.origin, value.path)
    return None


def _auth(ctx: Context, draft: Draft, node: Node) -> dict[str, Any] | None:
    given = node.get("type")
    kind = given.text.lower().replace("_", "").replace("-", "") if given is not None else "bearer"
    if kind in ("none", ""):
        return None
    header, user = node.get("header", "headerName"), node.get("username", "user")
    value = node.get("valueFrom", "token", "apiKey", "key", "value", "password", "secret", "env")
    known = {"bearer": "bearer", "oauth": "", "basic": "basic", "apikey": "header", "header": "header"}.get(kind, "")
    if not known:
        ctx.stub(
            draft, given or node, f'authentication of type "{kind}" has no counterpart', "use bearer, basic or header"
        )
        return None
    auth: dict[str, Any] = {"type": known}
    if header is not None and header.text:
        auth["header"] = header.text
    elif known == "header":
        auth["header"] = "X-API-Key"
    if user is not None and user.text:
        auth["username"] = user.text
    if value is not None and value.path[-1] == "env" and value.text:
        source: dict[str, Any] | None = {"env": value.text}
    else:
        source = ctx.secrets.source(ctx, value, draft.name, draft.namespace) if value is not None else None
    if source is None:
        source = {"secretKeyRef": {"name": draft.name, "key": "api-key"}}
        ctx.stub(
            draft,
            value or node,
            "it isn't said where the key comes from",
            f'create the Secret "{draft.name}" with "api-key"',
        )
    if known == "basic" and "username" not in auth:
        ctx.stub(draft, node, "basic authentication without a user name", "set http.auth.username")
        return None
    for left in node.untaken():
        ctx.dropped(draft.about, left)
    return {**auth, "valueFrom": source}
