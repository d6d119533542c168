"""Raw requests to a running server, as a client of Kubernetes sends them: JSON over TLS with a token, and watches.

`Api` is for one thread. A `Watch` has a connection of its own; waiting for an event has a deadline.
"""

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from kubernetes import config
from kubernetes.client import Configuration

DEADLINE = 20.0
"""Seconds within which whatever a test waits for must have happened."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """The server behind a kubeconfig."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        settings = Configuration()
        config.load_kube_config(kubeconfig, client_configuration=settings)
        self._host = urlsplit(settings.host)
        self._tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        self._headers = {"Authorization": settings.auth_settings()["BearerToken"]["value"]}
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        assert self._host.hostname is not None
        return http.client.HTTPSConnection(self._host.hostname, self._host.port, timeout=DEADLINE, context=self._tls)

    def again(self) -> Self:
        """The same for another thread."""
        return type(self)(self.kubeconfig)

    def close(self) -> None:
        self._connection.close()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        accept: str = "application/json",
        content_type: str = "application/json",
        **query: str | int,
    ) -> Answer:
        """Any request; `body` is sent as JSON unless it is bytes."""
        url = f"{path}?{urlencode(query)}" if query else path
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**self._headers, "Accept": accept, **({"Content-Type": content_type} if sent is not None else {})}
        self._connection.request(method, url, sent, headers)
        response = self._connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())

    def _done(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = self.ask(method, path, body, **more)
        assert 200 <= answer.status < 300, f"{method} {path}: {answer.status} {answer.body.decode()}"
        return answer.json

    def get(self, path: str, **query: Any) -> Any:
        return self._done("GET", path, **query)

    def create(self, path: str, obj: Json, **query: Any) -> Any:
        return self._done("POST", path, obj, **query)

    def update(self, path: str, obj: Json) -> Any:
        return self._done("PUT", path, obj)

    def patch(self, path: str, patch: Any, content_type: str = MERGE_PATCH, **query: Any) -> Any:
        return self._done("PATCH", path, patch, content_type=content_type, **query)

    def delete(self, path: str, options: Json | None = None, **query: Any) -> Any:
        return self._done("DELETE", path, options, **query)

    def exists(self, path: str) -> bool:
        answer = self.ask("GET", path)
        assert answer.status in (200, 404), answer.body
        return answer.status == 200

    def change(self, path: str, change: Callable[[Json], None]) -> Any:
        """Read, change and replace an object, again while somebody else is faster."""
        while True:
            obj = self.get(path)
            change(obj)
            answer = self.ask("PUT", path, obj)
            if answer.status != 409:
                assert answer.status == 200, answer.body
                return answer.json

    def watch(self, path: str, accept: str = "application/json", **query: str | int) -> "Watch":
        """Open a watch; headers have come when this returns."""
        url = f"{path}?{urlencode({'watch': 'true', **query})}"
        connection = self._connect()
        connection.request("GET", url, headers={**self._headers, "Accept": accept})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return Watch(connection, response)

    def until(self, path: str, holds: Callable[[Json | None], bool], **query: str | int) -> Json | None:
        """Wait for the object at `path`, given as None when it isn't there, to be as it should; told of changes by a watch."""
        collection, _, name = path.rpartition("/")
        listed = self.get(collection, fieldSelector=f"metadata.name={name}")
        found: Json | None = listed["items"][0] if listed["items"] else None
        if holds(found):
            return found
        version = listed["metadata"]["resourceVersion"]
        watch = self.watch(collection, fieldSelector=f"metadata.name={name}", resourceVersion=version, **query)
        with watch:
            while True:
                kind, obj = watch.next()
                found = None if kind == "DELETED" else obj
                if holds(found):
                    return found

    def until_gone(self, path: str) -> None:
        """Wait for the object at `path` to be no more."""
        self.until(path, lambda obj: obj is None)


class Watch:
    """An open watch."""

    def __init__(self, connection: http.client.HTTPSConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def line(self) -> Json | None:
        """The next event; None at the end. Raises TimeoutError when there is none in time."""
        text = self._response.readline()
        return json.loads(text) if text else None

    def next(self) -> tuple[str, Json]:
        """Type and object of the next event, which must come."""
        event = self.line()
        assert event is not None, "the watch was closed"
        return event["type"], event["object"]

    def expect(self, event_type: str, obj: Json | None = None) -> Json:
        """The very next event must be this; that nothing else came before is thereby shown as well."""
        seen_type, seen = self.next()
        assert seen_type == event_type, (seen_type, seen)
        if obj is not None:
            assert seen == obj
        return seen
