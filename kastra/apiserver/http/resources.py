"""HTTP methods on resources as verbs of the registry: what each path takes, and what it answers.

    collection    GET list, GET ?watch, POST create, DELETE deletecollection
    object        GET get, PUT update, PATCH patch or apply, DELETE delete
    subresource   status and scale: GET, PUT, PATCH; finalize: PUT; others: GET or POST, a stream of JSON lines or, for reads,
                  of Server-Sent Events

The semantics are the registry's. Source: apiserver/pkg/endpoints/handlers. Read next: `kastra.apiserver.registry`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast, get_args

import orjson

from kastra.api.errors import BadRequest, Cause, NotFound, StatusError, invalid
from kastra.api.object import Object
from kastra.apiserver.authorization import access_to, require
from kastra.apiserver.call import Call
from kastra.apiserver.deletion import DeleteOptions
from kastra.apiserver.listing import ListOptions, reached
from kastra.apiserver.registry import APPLY_PATCH, Registry
from kastra.apiserver.reviews import ReviewStrategy
from kastra.apiserver.subresources import ConnectSubresource
from kastra.client.interface import PropagationPolicy

from . import bodies, table
from .errors import method_not_allowed
from .message import Request, Response
from .negotiation import negotiate
from .routing import Route
from .sse import EVENT_STREAM, event_stream, position_of, wants_events
from .streams import Streams
from .watch import error_line, watch_response

TOKEN = "token"  # noqa: S105 - the name of a subresource
_POLICIES = get_args(PropagationPolicy)
_Verb = Callable[[Request, Route], Awaitable[Response]]


class Resources:
    """Serves resources over a registry.

    Args:
        streams: says whether a user may open one more.
    """

    def __init__(self, registry: Registry, streams: Streams) -> None:
        self._registry = registry
        self._streams = streams
        self._collection: Mapping[str, tuple[str, _Verb]] = {
            "GET": ("list", self._list),
            "POST": ("create", self._create),
            "DELETE": ("deletecollection", self._delete_collection),
        }
        self._object: Mapping[str, tuple[str, _Verb]] = {
            "GET": ("get", self._get),
            "PUT": ("update", self._update),
            "PATCH": ("patch", self._patch),
            "DELETE": ("delete", self._delete),
        }

    async def handle(self, request: Request, route: Route) -> Response:
        """Serve one request. Raises StatusError."""
        connector = self._connector(route)
        if connector is not None:
            request.verb = connector.verb
            self._authorize(request, route)
            if request.method != ("GET" if connector.verb == "get" else "POST"):
                raise method_not_allowed()
            return await self._connect(request, route, connector)
        if route.subresource == TOKEN and TOKEN in route.resource.subresources:
            request.verb = "create"
            self._authorize(request, route)
            return await self._create_token(request, route)
        verbs = self._object if route.name else self._collection
        found = verbs.get(request.method)
        if found is None:
            raise method_not_allowed()
        request.verb, serve = found
        if request.verb == "list" and request.flag("watch"):
            request.verb = "watch"
        self._authorize(request, route)
        if route.subresource:
            self._check_subresource(request, route)
        served = self._registry.served(route.resource)
        if request.verb not in served.resource.verbs:
            raise method_not_allowed()
        everywhere = route.resource.namespaced and not route.namespace
        if everywhere and request.verb == "deletecollection":
            raise method_not_allowed()  # too much to delete by one mistyped path
        # Nothing is changed for a client that couldn't read the answer.
        negotiate(request.headers.get(b"accept", b""), tables=not isinstance(served.strategy, ReviewStrategy))
        response = await serve(request, route)
        if served.deprecation and request.verb != "delete":
            response.warnings = [*response.warnings, served.deprecation]
        return response

    def _authorize(self, request: Request, route: Route) -> None:
        """Raises Forbidden if the user may not do what the request asks for."""
        name = route.name
        if not name and request.verb in ("list", "watch"):
            # Whoever may see one object by its name may also list and watch that one.
            name = _selected_name(request.query.get("fieldSelector", ""))
        access = access_to(route.resource, request.verb, route.namespace, name, route.subresource)
        require(self._registry.authorizer, request.user, access)

    # Reads

    async def _get(self, request: Request, route: Route) -> Response:
        form = negotiate(request.headers.get(b"accept", b""))
        served = self._registry.served(route.resource)
        found = await self._registry.get(route.resource, route.namespace, route.name, route.subresource)
        if form.kind == "object":
            return Response(body=found.raw)
        include = table.include_object(request.query.get("includeObject", ""))
        return Response(body=table.one(served, found, form, include, self._registry.clock.now(), route.subresource))

    async def _list(self, request: Request, route: Route) -> Response:
        streamed = request.verb == "watch" and request.flag("sendInitialEvents")
        form = negotiate(request.headers.get(b"accept", b""), streamed=streamed)
        if request.verb == "watch":
            self._streams.check(request.user)
            return watch_response(self._registry, request, route, form)
        include = table.include_object(request.query.get("includeObject", ""))
        options = _list_options(request)
        await reached(options, self._registry.storage)
        listed = await self._registry.list(route.resource, route.namespace, options)
        served = self._registry.served(route.resource)
        return Response(body=table.page(served, listed, form, include, self._registry.clock.now()))

    # Writes

    async def _create(self, request: Request, route: Route) -> Response:
        call = bodies.write_call(request, "CreateOptions")
        obj = await bodies.read_object(request, route.resource, call)
        created = await self._registry.create(route.resource, route.namespace, obj, call)
        return self._written(request, route, created, call, status=201)

    async def _update(self, request: Request, route: Route) -> Response:
        call = bodies.write_call(request, "UpdateOptions")
        scale = route.subresource == "scale"
        obj = await bodies.read_object(request, route.resource, call, scale=scale)
        _check_name(obj, route.name)
        if route.subresource == "finalize" and not isinstance(obj.get("spec") or {}, dict):
            raise BadRequest("spec must be an object")
        changed = self._registry.update(
            route.resource, route.namespace, route.name, obj, call, subresource=route.subresource
        )
        return self._written(request, route, await changed, call)

    async def _patch(self, request: Request, route: Route) -> Response:
        if request.media_type == APPLY_PATCH:
            return await self._apply(request, route)
        call = bodies.write_call(request, "PatchOptions")
        if "force" in request.query:
            cause = Cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")
            raise invalid("PatchOptions", "meta.k8s.io", "", [cause])
        patch, patch_type = await bodies.read_patch(request, route.resource, call)
        changed = self._registry.patch(
            route.resource, route.namespace, route.name, patch, patch_type, call, subresource=route.subresource
        )
        return self._written(request, route, await changed, call)

    async def _apply(self, request: Request, route: Route) -> Response:
        call = bodies.write_call(request, "PatchOptions", applying=True)
        obj = await bodies.read_applied(request, route.resource, call)
        if not route.subresource and not self._registry.exists(route.resource, route.namespace, route.name):
            # Applying what isn't there creates it, which takes the permission for that too.
            access = access_to(route.resource, "create", route.namespace)
            require(self._registry.authorizer, request.user, access)
        applied = self._registry.apply(
            route.resource,
            route.namespace,
            route.name,
            obj,
            call,
            force=request.flag("force"),
            subresource=route.subresource,
        )
        written = await applied
        return self._written(request, route, written.object, call, status=201 if written.created else 200)

    def _written(self, request: Request, route: Route, obj: Object, call: Call, status: int = 200) -> Response:
        form = negotiate(request.headers.get(b"accept", b""))
        if form.kind == "object":
            return Response(status, obj.raw, warnings=call.warnings)
        served = self._registry.served(route.resource)
        include = table.include_object(request.query.get("includeObject", ""))
        body = table.one(served, obj, form, include, self._registry.clock.now(), route.subresource)
        return Response(status, body, warnings=call.warnings)

    async def _create_token(self, request: Request, route: Route) -> Response:
        """A token for a ServiceAccount (TokenRequest)."""
        reader = self._registry.token_issuer
        if request.method != "POST" or reader is None:
            raise method_not_allowed()
        call = bodies.write_call(request, "CreateOptions")
        asked = await bodies.read_object(request, route.resource, call, scale=True)
        made = reader.request(route.namespace, route.name, asked)
        return Response(201, orjson.dumps(made), warnings=call.warnings)

    # Deletion

    async def _delete(self, request: Request, route: Route) -> Response:
        options, call = await _delete_options(request)
        deletion = await self._registry.delete(route.resource, route.namespace, route.name, options, call)
        if not deletion.gone:
            return self._written(request, route, deletion.object, call)
        resource = route.resource
        details = {"name": route.name, "kind": resource.plural, "uid": deletion.object.uid}
        if resource.group:
            details["group"] = resource.group
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return Response(body=orjson.dumps(body), warnings=call.warnings)

    async def _delete_collection(self, request: Request, route: Route) -> Response:
        selection = _list_options(request)
        options, call = await _delete_options(request)
        gone = await self._registry.delete_collection(route.resource, route.namespace, selection, options, call)
        resource = route.resource
        metadata = {"resourceVersion": str(self._registry.storage.revision)}
        head = orjson.dumps({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata})
        items = b",".join([obj.raw for obj in gone])
        return Response(body=b'%b,"items":[%b]}' % (head[:-1], items), warnings=call.warnings)

    # Streams and actions

    def _connector(self, route: Route) -> ConnectSubresource | None:
        if not route.subresource or not route.name:
            return None
        known = self._registry.connectors.of(route.resource.group_resource)
        return next((connector for connector in known if connector.name == route.subresource), None)

    async def _connect(self, request: Request, route: Route, connector: ConnectSubresource) -> Response:
        body: Mapping[str, Any] | None = None
        if connector.verb == "create":
            body = await bodies.read_json(request)
        since, part = position_of(request)
        if connector.verb == "get":
            self._streams.check(request.user)
            body = {"follow": request.flag("follow")} if "follow" in request.query else {}
            body = {**body, "part": part} if part else body or None
        records = await self._registry.connect(
            route.resource, route.namespace, route.name, route.subresource, request.user, body, since
        )
        # What an action refuses should be an answer; a stream of events may be quiet for long, so it begins at once.
        at_once = connector.verb == "get"
        if at_once and wants_events(request):
            return Response(stream=event_stream(records, self._registry.clock), content_type=EVENT_STREAM)
        if connector.text and request.headers.get(b"accept", b"*/*").strip() != b"application/json":
            return Response(stream=_lines(records, _text, at_once=at_once), content_type=b"text/plain; charset=utf-8")
        return Response(stream=_lines(records, orjson.dumps, at_once=at_once))

    def _check_subresource(self, request: Request, route: Route) -> None:
        resource, name = route.resource, route.subresource
        if (name == "status" and resource.has_status) or (name == "scale" and resource.scale is not None):
            allowed = request.method in {"GET", "PUT", "PATCH"}
        elif name == "finalize" and name in resource.subresources:
            allowed = request.method == "PUT"
        else:
            raise NotFound(
                "the server could not find the requested resource", group=resource.group, kind=resource.plural
            )
        if not allowed:
            raise method_not_allowed()


def _text(record: Mapping[str, Any]) -> bytes:
    return str(record["text"]).encode()


def _selected_name(selector: str) -> str:
    """The name that a field selector asks for; empty if it asks for more than one."""
    for part in selector.split(","):
        key, _, value = part.replace("==", "=").partition("=")
        if key.strip() == "metadata.name" and not key.endswith("!"):
            return value.strip()
    return ""


async def _lines(
    records: AsyncIterator[Mapping[str, Any]], encode: Callable[[Mapping[str, Any]], bytes], *, at_once: bool
) -> AsyncIterator[bytes]:
    begun = at_once
    if at_once:
        yield b""
    try:
        async for record in records:
            begun = True
            yield encode(record) + b"\n"
    except StatusError as error:
        if not begun:
            raise
        yield error_line(error)
    finally:
        close = getattr(records, "aclose", None)
        if close is not None:
            await close()


def _list_options(request: Request) -> ListOptions:
    query = request.query
    match, version = query.get("resourceVersionMatch", ""), query.get("resourceVersion", "")
    why = ""
    if match and not version:
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match and query.get("continue"):
        why = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
    elif match == "Exact" and version == "0":
        why = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    if why:
        raise invalid("ListOptions", "meta.k8s.io", "", [Cause("FieldValueForbidden", why, "resourceVersionMatch")])
    if match not in {"", "Exact", "NotOlderThan"}:
        why = f'Unsupported value: "{match[:64]}": supported values: "Exact", "NotOlderThan"'
        raise invalid("ListOptions", "meta.k8s.io", "", [Cause("FieldValueNotSupported", why, "resourceVersionMatch")])
    return ListOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        request.number("limit"),
        query.get("continue", ""),
        version,
        match,
    )


async def _delete_options(request: Request) -> tuple[DeleteOptions, Call]:
    body = await bodies.read_options(request)
    call = bodies.write_call(request, "DeleteOptions")
    dry_run = body.get("dryRun") or []
    if dry_run not in ([], ["All"]):
        cause = Cause("FieldValueNotSupported", 'Unsupported value: supported values: "All"', "dryRun")
        raise invalid("DeleteOptions", "meta.k8s.io", "", [cause])
    if dry_run:
        call.options = type(call.options)(True, call.options.field_manager, call.options.field_validation)
    policy = body.get("propagationPolicy") or request.query.get("propagationPolicy") or None
    orphan = body.get("orphanDependents")
    if orphan is None and "orphanDependents" in request.query:
        orphan = request.flag("orphanDependents")
    if policy is None and orphan is not None:
        policy = "Orphan" if orphan else "Background"
    if policy not in (None, *_POLICIES):
        why = f"Unsupported value: {str(policy)[:64]!r}: supported values: {', '.join(_POLICIES)}"
        raise invalid("DeleteOptions", "meta.k8s.io", "", [Cause("FieldValueNotSupported", why, "propagationPolicy")])
    preconditions = body.get("preconditions")
    preconditions = {} if preconditions is None else preconditions
    if not isinstance(preconditions, dict):
        raise BadRequest("preconditions must be an object")
    uid, version = (str(preconditions.get(key) or "") for key in ("uid", "resourceVersion"))
    return DeleteOptions(cast("PropagationPolicy | None", policy), uid, version), call


def _check_name(obj: dict[str, Any], name: str) -> None:
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    if not isinstance(metadata, dict):
        raise BadRequest("metadata must be an object")
    own = metadata.setdefault("name", name)
    if own != name:
        raise BadRequest(f"the name of the object ({own}) does not match the name on the URL ({name})")
