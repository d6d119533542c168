"""`call`: an HTTP request becomes a Tool and a step that hands it what is computed; a function of `use.functions` a scope.

Everything that is written out stands in the Tool, everything that is computed is an argument. Keys become Secrets. Read
next: `kastra.tool.http`.
"""

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kastra.migrate.node import Node

from .cel import Seen, field_of
from .place import Unmapped, expression, is_expression, literal, template

if TYPE_CHECKING:
    from .tasks import Task

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"\s*\$\{\s*\$secrets\.([A-Za-z0-9_-]+)(?:\.([A-Za-z0-9_-]+))?\s*\}\s*")
_BUILT_IN = ("asyncapi", "grpc", "openapi", "mcp", "a2a")


def call(task: "Task", node: Node) -> dict[str, Any]:
    """The step of a `call` task."""
    name = literal(node, "the name of a function")
    given = task.node.get("with")
    if name == "http":
        return _http(task, given)
    if name in _BUILT_IN:
        raise Unmapped(node, f"calls {name}; write a Tool")
    return _function(task, node, name, given)


def _function(task: "Task", node: Node, name: str, given: Node | None) -> dict[str, Any]:
    functions = task.converter.use.get("functions") if task.converter.use is not None else None
    if functions is None or not functions.has(name):
        raise Unmapped(node, f'use.functions has no "{name}", and nothing is fetched from catalogs')
    inside = Seen(names={"context": task.seen.names.get("context", "null")})
    body = Node([{name: functions.value[name]}], functions.origin, functions.path)
    steps = task.steps(body, inside)
    if given is not None:
        held = task.converter.fresh(f"{task.id}-with")
        steps = [{"id": held, "set": {}, "output": {"as": template(given, task.seen)}}, *steps]
    return {"do": {"steps": steps}}


class _Arguments:
    """What a step hands to its Tool, and where the Tool finds it."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.values: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> str:
        """CEL for an argument, in the Tool."""
        wanted, number = re.sub(r"\W", "_", name) or "value", 2
        name = wanted
        while name in self.values and self.values[name] != value:
            name, number = f"{wanted}_{number}", number + 1
        self.values[name] = value
        return f"input.{name}"


def _http(task: "Task", given: Node | None) -> dict[str, Any]:
    if given is None or not isinstance(given.value, dict):
        raise Unmapped(task.node, "an HTTP call needs with")
    converter, ctx = task.converter, task.converter.ctx
    method = literal(given.get("method"), "the method").upper()
    if method not in _METHODS:
        raise Unmapped(given.child("method"), f"is none of {', '.join(_METHODS)}")
    endpoint = given.get("endpoint")
    if endpoint is None:
        raise Unmapped(given, "lacks endpoint")
    arguments = _Arguments(task.seen)
    address = endpoint.get("uri") if isinstance(endpoint.value, dict) else endpoint
    if address is None:
        raise Unmapped(endpoint, "lacks uri")
    http: dict[str, Any] = {"url": _url(address, given.get("query"), arguments), "method": method}
    headers = given.get("headers")
    if headers is not None:
        http["headers"] = _headers(headers, arguments)
    body = given.get("body")
    if body is not None:
        made = template(body, task.seen)
        http["body"] = f"${{{{ {arguments.add('body', made)} }}}}" if "${{" in str(made) else made
    output = given.get("output")
    if output is not None and output.value != "content":
        raise Unmapped(output, f"wants the answer as {output.value}; a Tool gives the content")
    name = f"{converter.draft.name}-{task.id}"
    authentication = endpoint.get("authentication") if isinstance(endpoint.value, dict) else None
    if authentication is not None:
        _authenticate(task, authentication, http, name)
    for left in given.untaken():
        if left.value is not False:
            ctx.dropped(converter.draft.about, left)
    spec: dict[str, Any] = {"http": http}
    if method in ("GET", "HEAD"):
        spec["annotations"] = {"readOnly": True, "idempotent": True}
    draft = ctx.draft("Tool", converter.fresh(name), converter.draft.namespace, task.node, spec)
    if draft is None:
        raise Unmapped(task.node, "its Tool has the name of another one")
    # A failed request isn't repeated, unless a `try` around it says so.
    return {"tool": draft.name, "with": arguments.values, "retry": {"limit": 0}}


def _url(node: Node, query: Node | None, arguments: _Arguments) -> str:
    text = node.text
    if is_expression(text):
        if query is not None:
            raise Unmapped(query, "is added to an address that is computed")
        return f"${{{{ {arguments.add('url', f'${{{{ {expression(node, arguments.seen)} }}}}')} }}}}"
    if not text or "${{" in text:
        raise Unmapped(node, "is no address")

    def inserted(match: re.Match[str]) -> str:
        base = arguments.seen.dot
        start = f"optional.ofNonZeroValue({base})" if arguments.seen.nothing else base
        return f"${{{{ {arguments.add(match[1], f'${{{{ {field_of(start, match[1])} }}}}')} }}}}"

    url = _VARIABLE.sub(inserted, text)
    parts = []
    for name in query.value if query is not None and isinstance(query.value, dict) else ():
        value = query.child(name) if query is not None else node
        if is_expression(value.value):
            found = f"${{{{ {arguments.add(name, template(value, arguments.seen))} }}}}"
        else:
            found = quote(literal(value, "a parameter"), safe="")
        parts.append(f"{quote(str(name), safe='')}={found}")
    return url + ("&" if "?" in url else "?") * bool(parts) + "&".join(parts)


def _headers(node: Node, arguments: _Arguments) -> dict[str, str]:
    if not isinstance(node.value, dict):
        raise Unmapped(node, "isn't a mapping that is written out")
    made = {}
    for name in node.value:
        value = node.child(name)
        if is_expression(value.value):
            made[name] = f"${{{{ {arguments.add(f'header_{name}', template(value, arguments.seen))} }}}}"
        else:
            made[name] = literal(value, "a header")
    return made


def _authenticate(task: "Task", node: Node, http: dict[str, Any], owner: str) -> None:
    policy = task.converter.reusable("authentications", node)
    bearer, basic = policy.get("bearer"), policy.get("basic")
    if bearer is not None:
        used, token = bearer.get("use"), bearer.get("token")
        source = _source(task, token, owner, "token") if token is not None else None
        if used is not None:
            source = {"secretKeyRef": {"name": literal(used, "the name of a secret"), "key": "token"}}
        if source is None:
            raise Unmapped(bearer, "has no token that is written out, and none of a secret")
        http["auth"] = {"type": "bearer", "valueFrom": source}
        return
    if basic is not None and basic.has("username", "password"):
        username, password = basic.get("username"), basic.get("password")
        source = _source(task, password, owner, "password") if password is not None else None
        if source is None:
            raise Unmapped(basic, "has no password that is written out, and none of a secret")
        http["auth"] = {"type": "basic", "username": literal(username, "the user name"), "valueFrom": source}
        return
    raise Unmapped(policy, "authenticates by something else than a bearer token, or a user name and a password")


def _source(task: "Task", node: Node, owner: str, key: str) -> dict[str, Any] | None:
    match = _SECRET.fullmatch(node.text)
    if match:
        return {"secretKeyRef": {"name": match[1], "key": match[2] or key}}
    if is_expression(node.value):
        return None
    return task.converter.ctx.secrets.source(
        task.converter.ctx, node, f"{owner}-{key}", task.converter.draft.namespace, key
    )
