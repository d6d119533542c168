"""Where serverless workflows meet the world, and what of them has no counterpart: calls, events, retries, the report."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kastra.manifest.encode import to_yaml_documents
from kastra.migrate.serverless.cel import Seen, to_cel
from kastra.migrate.serverless.jq import NotExact
from kastra.testing.control_plane import ControlPlane
from tests.unit.migrate.conftest import Convert

HEAD = "document: {dsl: '1.0.3', namespace: default, name: case, version: '1.0.0'}\n"


@pytest.fixture
def pets() -> Iterator[tuple[str, list[str]]]:
    """An endpoint, and what it was asked: /pet/1 is there, /busy is only the third time, nothing else is."""
    asked: list[str] = []

    class Pets(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            asked.append(f"{self.command} {self.path} {self.headers.get('X-Trace', '')} {body}".strip())
            status = 200 if self.path.startswith("/pet/1") or (self.path == "/busy" and len(asked) > 2) else 404
            status = 503 if self.path == "/busy" and status == 404 else status
            content = json.dumps({"id": 1, "name": "Milou"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - names of the standard library

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pets)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


async def run(convert: Convert, folder: Path, tasks: str, given: Any, head: str = "") -> Any:
    """The output of a workflow that may call this machine."""
    found = convert(text=f"{HEAD}{head}do:\n{tasks}\n")
    assert found.report.complete, found.report.lines()
    objects = [draft.to_object() for draft in found.objects]
    for obj in objects:
        if obj["kind"] == "Tool":
            obj["spec"]["http"]["allowPrivate"] = True
    async with ControlPlane(folder) as env:
        await env.apply(to_yaml_documents(objects))
        return (await env.run("workflow/case", input=given)).output


async def test_a_call_inserts_variables_query_headers_and_body(
    convert: Convert, tmp_path: Path, pets: tuple[str, list[str]]
) -> None:
    tasks = f"""
- read:
    call: http
    with:
      method: post
      endpoint: {{uri: '{pets[0]}/pet/{{petId}}'}}
      query: {{fields: name, lang: '${{ .lang }}'}}
      headers: {{X-Trace: '${{ .trace }}'}}
      body: {{wanted: '${{ .petId }}', plain: true}}
    output: {{as: '{{ ids: [ $input.petId, .id ] }}'}}
"""
    gives = await run(convert, tmp_path, tasks, {"petId": "1", "lang": "a&b", "trace": "t"})

    assert gives == {"ids": ["1", 1]}
    (request,) = pets[1]
    line, _, body = request.partition(" t ")
    assert line == "POST /pet/1?fields=name&lang=a%26b"
    assert json.loads(body) == {"wanted": "1", "plain": True}


async def test_a_failed_call_is_caught_by_type_and_status_and_not_repeated(
    convert: Convert, tmp_path: Path, pets: tuple[str, list[str]]
) -> None:
    tasks = f"""
- attempt:
    try:
    - read: {{call: http, with: {{method: get, endpoint: '{pets[0]}/pet/{{petName}}'}}}}
    catch:
      errors: {{with: {{type: 'https://serverlessworkflow.io/spec/1.0.0/errors/communication', status: 404}}}}
      as: err
      do:
      - tell: {{set: {{status: '${{ $err.status }}', who: '${{ .petName }}'}}}}
"""
    assert await run(convert, tmp_path, tasks, {"petName": "Milou"}) == {"status": 404, "who": "Milou"}
    assert pets[1] == ["GET /pet/Milou"]


async def test_retries_go_on_until_it_works_and_only_for_what_is_caught(
    convert: Convert, tmp_path: Path, pets: tuple[str, list[str]]
) -> None:
    tasks = f"""
- attempt:
    try:
    - read: {{call: http, with: {{method: get, endpoint: '{pets[0]}/busy'}}}}
    catch:
      errors: {{with: {{status: 503}}}}
      retry: quickly
"""
    head = "use: {retries: {quickly: {delay: {milliseconds: 1}, backoff: {exponential: {}}, limit: {attempt: {count: 5}}}}}\n"
    assert (await run(convert, tmp_path, tasks, {}, head))["name"] == "Milou"
    assert len(pets[1]) == 3


def test_events_are_waited_for_and_emitted_by_type(convert: Convert) -> None:
    found = convert(
        text=HEAD
        + """
do:
- hot:
    listen:
      to: {one: {with: {type: room.measured, source: sensors, data: '${ .celsius > $context.limit }'}}}
- either: {listen: {to: {any: [{with: {type: a}}, {with: {type: b, subject: c}}]}}}
- both: {listen: {to: {all: [{with: {type: a}}, {with: {type: b}}]}, read: envelope}}
- tell: {emit: {event: {with: {type: alarm.raised, data: {of: '${ . }'}}}}}
"""
    )
    assert found.report.lines() == []
    steps = found.objects[0].to_object()["spec"]["steps"]
    assert steps[0]["waitForEvent"] == {
        "type": "room.measured",
        "source": "sensors",
        "filter": "(dyn(event.data).?celsius.orValue(null) > state.?context.orValue(null).?limit.orValue(null))",
    }
    assert [step["waitForEvent"]["type"] for step in steps[1]["parallel"]["steps"]] == ["a", "b"]
    assert (steps[1]["parallel"]["join"], steps[2]["parallel"]["join"]) == ("any", "all")
    assert steps[3]["emit"] == {"type": "alarm.raised", "data": {"of": "${{ prev }}"}}


def test_keys_become_secrets_and_never_stand_in_the_report(convert: Convert) -> None:
    text = f"""{HEAD}
use: {{authentications: {{shop: {{bearer: {{token: abcdef-very-secret-0123}}}}}}}}
do:
- read: {{call: http, with: {{method: get, endpoint: {{uri: 'https://a.example.com', authentication: {{use: shop}}}}}}}}
- more:
    call: http
    with: {{method: get, endpoint: {{uri: 'https://b.example.com', authentication: {{bearer: {{use: mine}}}}}}}}
"""
    found = convert(text=text)
    objects = {f"{d.kind}/{d.name}": d.to_object() for d in found.objects}

    assert found.report.complete
    assert objects["Tool/case-read"]["spec"]["http"]["auth"]["valueFrom"]["secretKeyRef"]["name"] == "case-read-token"
    assert objects["Tool/case-more"]["spec"]["http"]["auth"]["valueFrom"] == {
        "secretKeyRef": {"name": "mine", "key": "token"}
    }
    assert "abcdef" not in to_yaml_documents(objects.values()) + "\n".join(found.report.lines())


@pytest.mark.parametrize(
    ("tasks", "place", "said"),
    [
        ("- a: {set: {x: '${ .a / 2 }'}}", "-:3:13", "divides"),
        ("- a: {set: {x: '${ now }'}}", "-:3:13", 'calls "now"'),
        ("- a: {run: {shell: {command: ls}}}", "-:3:13", "runs a shell; write a Tool"),
        ("- a: {call: grpc, with: {}}", "-:3:7", "calls grpc; write a Tool"),
        ("- a: {do: [{b: {set: {}, then: end}}]}", "-:3:26", "ends the whole workflow from within a task"),
        ("- a: {set: {x: 1}, then: nowhere}", "-:3:20", 'leads to "nowhere"'),
        ("- a: {listen: {to: {any: []}}}", "-:3:16", "listens to everything"),
        ("- a: {wait: soon}", "-:3:7", "isn't a duration"),
        ("- a: {raise: {error: unknown}}", "-:3:15", 'use.errors has no "unknown"'),
        ("- a: {fly: {}}", "-:3:3", "none of the tasks that are known"),
        ("- a: {call: http, with: {method: get, endpoint: 'https://x.example', output: response}}", "-:3:70", "wants the answer"),
    ],
    ids=["divide", "now", "shell", "grpc", "end", "then", "any", "wait", "error", "kind", "response"],
)  # fmt: skip
def test_what_has_no_counterpart_is_reported_with_its_place_and_becomes_a_stub(
    convert: Convert, tasks: str, place: str, said: str
) -> None:
    found = convert(text=f"{HEAD}do:\n{tasks}\n- b: {{set: {{kept: true}}}}\n")
    (line,) = found.report.lines()
    workflow = next(draft for draft in found.objects if draft.kind == "Workflow").to_object()

    assert line.startswith(f"{place} not-migrated ")
    assert said in line
    assert [step["id"] for step in workflow["spec"]["steps"]] == ["a", "b"]
    assert any(draft.reasons for draft in found.objects)


def test_whole_documents_say_what_they_are(convert: Convert) -> None:
    spec = convert.objects(
        "document: {dsl: '1.0.0', namespace: sales, name: takeOrder, version: 2.0.1, title: Orders, summary: Takes one.,"
        " tags: {team: shop}}\ninput: {schema: {format: json, document: {type: object}}}\ntimeout: {after: {hours: 1}}\n"
        "schedule: {cron: '0 9 * * *'}\ndo: [{a: {set: {b: 1}, timeout: {after: PT5S}}}]\n"
    )["Workflow/take-order"]

    assert spec["metadata"] == {"name": "take-order", "namespace": "sales", "labels": {"team": "shop"}}
    assert spec["spec"]["inputSchema"] == {"type": "object"}
    assert spec["spec"]["timeout"] == {"total": "3600s"}
    assert spec["spec"]["schedule"] == {"cron": "0 9 * * *"}
    assert spec["spec"]["steps"][0]["timeout"] == {"total": "PT5S"}
    assert (spec["spec"]["name"], spec["spec"]["version"]) == ("Orders", "2.0.1")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "${ .a }", "${ .a + 1 }", "${ [.b[] | .c] }", ".x", "${{", "http", "PT1S", "end", "get", "https://e.example/{a}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "with", "type", "uri", "error", "event", "to", "one", "any", "when", "then", "in", "each", "branches", "from", "as", "retry", "do", "method", "endpoint"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
TASKS = st.dictionaries(
    st.sampled_from(["set", "do", "for", "while", "switch", "fork", "try", "catch", "raise", "wait", "emit", "listen", "call", "with", "run", "if", "then", "input", "output", "export", "timeout", "metadata"]),
    VALUES,
    min_size=1,
    max_size=4,
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "case", "END", "Größe", "x y", ""])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(NAMES, TASKS | VALUES, min_size=1, max_size=1), max_size=4), VALUES, VALUES)
def test_whatever_a_document_holds_what_comes_out_is_valid_or_reported(
    convert: Convert, today: Any, tasks: list[Any], use: Any, rest: Any
) -> None:
    document = {"document": {"dsl": "1.0.0", "name": "w", "namespace": "default"}, "use": use, "do": tasks}
    found = convert(text=json.dumps({**document, **(rest if isinstance(rest, dict) else {"output": rest})}))

    from kastra.manifest.loader import Manifest
    from kastra.manifest.position import Positions

    manifests = [Manifest(draft.to_object(), "-", "", Positions({})) for draft in found.objects]
    assert [p for problems in today.check(manifests) for p in problems if p.severity == "error"] == []
    assert found.objects or found.report.lines()


@given(st.text(alphabet='.ab$"\\()[]{}|,:;+-*/%<>=! 019?#@', max_size=30))
def test_whatever_an_expression_holds_it_is_translated_or_refused(text: str) -> None:
    from kastra.cel import environment

    try:
        cel = to_cel(text, Seen(names={"a": "x"}))
    except NotExact:
        return
    try:
        environment("prev", "x").compile(cel)
    except Exception as error:
        # CEL may know before a run what jq only finds during one: values of types that don't go together.
        assert "no matching overload" in str(error) or "expected type" in str(error), (cel, error)


@pytest.mark.parametrize(
    "part", ["(", "[", "{a:", "-", '"\\(', ".a", ".+", ".//", ".|", "if ", "not|", "map("], ids=range(12)
)
def test_long_expressions_are_refused_or_translated_at_once(part: str) -> None:
    for count in (20, 100, 600, 5_000):
        try:
            to_cel(part * count + ".", Seen())
        except NotExact as error:
            assert str(error)


def test_many_tasks_without_a_name_that_a_step_can_have_get_one_each(convert: Convert) -> None:
    tasks = [{"ж" * (number + 1): {"set": {"a": number}}} for number in range(300)]
    spec = convert.objects(json.dumps({"document": {"dsl": "1.0.0", "name": "w"}, "do": tasks}))["Workflow/w"]["spec"]
    assert len({step["id"] for step in spec["steps"]}) == 300


async def test_workflows_listen_to_each_other_and_run_each_other(convert: Convert, tmp_path: Path) -> None:
    documents = """
document: {dsl: '1.0.3', namespace: default, name: sensor, version: '1.0.0'}
do:
- measure: {set: {celsius: '${ .celsius + 1 }'}}
- tell: {emit: {event: {with: {type: room.measured, data: {celsius: '${ .celsius }'}}}}}
---
document: {dsl: '1.0.3', namespace: default, name: case, version: '1.0.0'}
do:
- both:
    fork:
      branches:
      - hear: {listen: {to: {one: {with: {type: room.measured, data: '${ .celsius > 30 }'}}}}}
      - tell:
          do:
          - cold: {run: {workflow: {namespace: default, name: sensor, version: '1.0.0', input: {celsius: 10}}}}
          - hot: {run: {workflow: {namespace: default, name: sensor, version: '1.0.0', input: {celsius: 40}}}}
          - type: {set: {emitted: '${ .type }', of: '${ .data.celsius }'}}
"""
    found = convert(text=documents)
    assert found.report.lines() == []
    async with ControlPlane(tmp_path) as env:
        await env.apply(to_yaml_documents(draft.to_object() for draft in found.objects))
        result = await env.run("workflow/case", input={})
    assert result.output == [[{"celsius": 41}], {"emitted": "room.measured", "of": 41}]
