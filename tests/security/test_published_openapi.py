"""What the server publishes about itself (OpenAPI v3) can be used to ask it anything, right or wrong, and it keeps its word.

Requests are made by schemathesis from every operation of every document: of the right form, and of wrong ones. Answers are
held to the same rules as those of the fuzzer; a success must be one that the operation names.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .wire import BlockingWire, blocking_server

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.core import NotSet  # noqa: E402 - after the check that it is installed

VOLUME = int(os.environ.get("KASTRA_FUZZ_EXAMPLES", "0"))
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
GROUPS = ("api/v1", "apis/admissionregistration.k8s.io/v1", "apis/apiextensions.k8s.io/v1", "apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1", "apis/coordination.k8s.io/v1",
          "apis/events.k8s.io/v1", "apis/example.com/v1", "apis/mastra.ai/v1", "apis/rbac.authorization.k8s.io/v1")  # fmt: skip
REAL = {"namespace": "default", "name": "a"}
pytestmark = pytest.mark.timeout(3600 if VOLUME else 60)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[BlockingWire]:
    with blocking_server(tmp_path) as running:
        yield running


def request_of(case: Any, names: dict[str, str]) -> tuple[str, str, bytes, dict[str, str]]:
    """A case as method, path with query, body and headers."""
    # Values come percent-encoded.
    path = case.path.format(**{**{name: str(value) for name, value in (case.path_parameters or {}).items()}, **names})
    if case.query:
        path += "?" + urlencode(
            {name: _texts(value) for name, value in case.query.items()}, doseq=True, errors="replace"
        )
    headers = {
        name.lower(): str(value) for name, value in (case.headers or {}).items() if name.lower() != "authorization"
    }
    body = b""
    if not isinstance(case.body, NotSet):
        body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
        headers["content-type"] = case.media_type or "application/json"
    return case.method.upper(), path, body, headers


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


@settings(
    max_examples=VOLUME // 10 or 25,
    derandomize=not VOLUME,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)
@pytest.mark.parametrize("group", GROUPS)
@given(data=st.data())
def test_every_published_operation_answers_as_it_says(wire: BlockingWire, group: str, data: st.DataObject) -> None:
    operations = operations_of(wire, group)
    operation = data.draw(st.sampled_from(operations))
    case = data.draw(operation.as_strategy(generation_mode=data.draw(st.sampled_from(MODES))))
    method, path, body, headers = request_of(case, data.draw(st.sampled_from((REAL, {}))))
    answer = wire.refused_or_done(method, path, body, headers)
    if answer.status < 400:
        assert str(answer.status) in operation.definition.raw["responses"], (method, path, answer.status)


_LOADED: dict[tuple[int, str], list[Any]] = {}


def operations_of(wire: BlockingWire, group: str) -> list[Any]:
    """All operations of a group's document; loaded once per server."""
    key = (id(wire), group)
    if key not in _LOADED:
        _LOADED.clear()
        reply = wire.send("GET", f"/openapi/v3/{group}")
        loaded = schemathesis.openapi.from_dict(orjson.loads(reply.body))
        _LOADED[key] = [found.ok() for found in loaded.get_all_operations()]
    return _LOADED[key]


def test_every_group_that_is_published_is_tried(wire: BlockingWire) -> None:
    index = orjson.loads((wire.send("GET", "/openapi/v3")).body)
    assert set(GROUPS) == set(index["paths"])
