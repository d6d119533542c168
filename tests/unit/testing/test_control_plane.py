"""A ControlPlane is the whole control plane, for one test: it applies, settles, tells, and time passes when it is asked to."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kastra import Context, Result, TerminalError, View, controller
from kastra.api.errors import NotFound
from kastra.api.meta import ObjectRef
from kastra.app.running import RunFailed
from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane

CONTROLLER = '''
"""DataSource: a database that agents may query. Keeps one query Tool per source and reports what it can see."""

import sqlite3
from contextlib import closing

from kastra import Context, Fields, Result, View, controller
from kastra.config import Settings


class DataSourceSpec(Fields):
    url: str


class DataSourceStatus(Fields):
    rows: int | None = None


class DataSource(View, kind="DataSource", group="example.com"):
    spec: DataSourceSpec
    status: DataSourceStatus


@controller(DataSource, owns=["Tool"])
async def reconcile(source: DataSource, ctx: Context) -> Result:
    path = ctx.service(Settings).project / source.spec.url.removeprefix("sqlite:")
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT count(*) FROM orders").fetchone()[0]
    await ctx.apply(query_tool(source))
    ctx.status.rows = rows
    ctx.ready(f"{rows} rows")
    return Result(requeue_after=60)


@reconcile.finalizer(timeout=30)
async def close(source: DataSource, ctx: Context) -> None:
    (ctx.service(Settings).project / "closed").write_text(source.metadata.name)


def query_tool(source):
    return {
        "apiVersion": "mastra.ai/v1",
        "kind": "Tool",
        "metadata": {"name": f"{source.metadata.name}-query"},
        "spec": {"description": "Counts the letters of a query.", "python": {"entrypoint": "json:loads"}},
    }
'''
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: datasources.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: DataSource, plural: datasources, singular: datasource}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [url]
            properties:
              url: {type: string, pattern: '^sqlite:'}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
ORDERS = """
apiVersion: example.com/v1
kind: DataSource
metadata: {name: orders}
spec: {url: "sqlite:orders.db"}
"""


def insert(project: Path, rows: int) -> None:
    database = sqlite3.connect(project / "orders.db")
    database.execute("CREATE TABLE IF NOT EXISTS orders (product)")
    database.executemany("INSERT INTO orders VALUES (?)", [("cup",)] * rows)
    database.commit()
    database.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "controllers/datasource.py": CONTROLLER,
        "manifests/datasources.yaml": DEFINITION,
        "manifests/orders.yaml": ORDERS,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    insert(tmp_path, 3)
    return tmp_path


@pytest.fixture
async def env(project: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=project)) as plane:
        yield plane


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
        yield plane


# ---- a kind of a project's own


async def test_a_data_source_reports_its_rows_and_owns_a_tool(env) -> None:
    await env.apply("manifests")
    await env.settle()
    source: Any = await env.get(env.manager.view("DataSource"), "orders")
    assert source.condition("Ready").message == "3 rows"
    assert source.condition("Ready").is_true
    assert source.condition("Other") is None
    assert source.status.rows == 3
    assert [tool.name for tool in await env.owned_by(source)] == ["orders-query"]


async def test_it_is_looked_at_again_when_its_time_has_come(env, project) -> None:
    await env.apply("manifests")
    await env.settle()
    insert(project, 2)
    await env.advance(59)
    assert (await env.get("DataSource", "orders")).status["rows"] == 3
    await env.advance(1)
    assert (await env.get("DataSource", "orders")).status["rows"] == 5


async def test_it_is_closed_when_it_is_deleted_and_its_tool_goes(env, project) -> None:
    await env.apply("manifests")
    await env.settle()
    source = await env.get("DataSource", "orders")
    await env.client.delete(source.ref)
    await env.settle()
    assert (project / "closed").read_text() == "orders"
    assert await env.owned_by(source) == []
    with pytest.raises(NotFound):
        await env.get("Tool", "orders-query")


# ---- the kit itself


async def test_manifests_come_as_files_text_and_objects(env) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: text}\n"
    as_object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "object"}}
    report = await env.apply(Path("manifests") / "datasources.yaml", text, as_object, namespace="shop")
    assert sorted(str(applied.ref) for applied in report.applied) == [
        "ConfigMap/shop/object",
        "ConfigMap/shop/text",
        "CustomResourceDefinition.apiextensions.k8s.io/datasources.example.com",
        "Namespace/shop",
    ]


async def test_a_mistake_is_shown_at_its_place_and_nothing_is_applied(env) -> None:
    with pytest.raises(ApplyFailed, match=r"^-:4:8 error spec.url: "):
        await env.apply(DEFINITION, ORDERS.strip().replace("sqlite:", "mysql:"))
    with pytest.raises(NotFound):
        await env.get("crds", "datasources.example.com")


async def test_every_test_has_a_control_plane_of_its_own(tmp_path) -> None:
    for _ in range(2):
        async with ControlPlane(settings=Settings(project=tmp_path)) as plane:
            await plane.client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "once"}})
    assert list(tmp_path.iterdir()) == []


async def test_time_stands_still_by_itself(plain) -> None:
    start = plain.clock.now()
    await plain.settle()
    assert plain.clock.now() == start
    await plain.advance(3600)
    assert plain.clock.now() - start == timedelta(hours=1)


class Flaky(View, kind="ConfigMap", group="", version="v1"):
    """A ConfigMap whose reconcile fails twice."""


async def test_settling_goes_through_retries_that_are_due_soon(plain) -> None:
    attempts = []

    @controller(Flaky)
    async def flaky(view: Flaky, ctx: Context) -> Result:
        attempts.append(ctx.clock.monotonic())
        if len(attempts) < 3:
            raise OSError("not yet")
        raise TerminalError("never")

    plain.manager.add(flaky)
    await plain.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    await plain.settle()
    assert attempts == pytest.approx([0.0, 0.005, 0.015])


async def test_what_does_not_settle_is_named(plain) -> None:
    @controller(Flaky, name="sleepy")
    async def sleepy(view: Flaky, ctx: Context) -> Result:
        await ctx.clock.sleep(10)
        return Result()

    plain.manager.add(sleepy)
    await plain.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    with pytest.raises(TimeoutError, match=r"^not settled after 0.1 s: controller sleepy: 0 waiting, 1 in work$"):
        await plain.settle(timeout=0.1)
    await plain.clock.advance(10)


async def test_an_error_in_the_block_comes_out_as_it_is(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ControlPlane(settings=Settings(project=tmp_path)):
            raise ZeroDivisionError


def test_outside_of_its_block_it_says_how_to_use_it(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="async with ControlPlane"):
        _ = ControlPlane(settings=Settings(project=tmp_path)).client


# ---- Runs

FLOW = """
apiVersion: mastra.ai/v1
kind: Tool
metadata: {name: shout}
spec:
  description: Says it loudly.
  python: {inline: "def shout(text: str) -> str:\\n    return text.upper()\\n"}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: loud}
spec:
  steps:
  - id: wait
    sleep: 1h
  - id: say
    tool: shout
    input: {with: {text: '${{ input.text }}'}}
---
apiVersion: mastra.ai/v1
kind: Workflow
metadata: {name: quick}
spec:
  steps:
  - id: say
    tool: shout
    input: {with: {text: '${{ input.text }}'}}
"""


async def test_a_workflow_runs_to_its_end(plain) -> None:
    await plain.apply(FLOW)
    await plain.settle()
    assert (await plain.run("workflow/quick", {"text": "hello"})).output == "HELLO"


async def test_a_failed_run_is_an_error_with_its_result(plain) -> None:
    await plain.apply(FLOW)
    with pytest.raises(RunFailed) as failed:
        await plain.run("workflow/quick", {"text": 1})
    assert failed.value.result.phase == "Failed"


async def test_a_sleeping_run_wakes_when_its_time_has_come(plain) -> None:
    await plain.apply(FLOW)
    await plain.settle()
    run = await plain.start("workflow/loud", {"text": "hello"})
    await plain.advance(1800)
    assert not (await plain.client.get(ObjectRef("runs", run.name, "default"))).is_condition_true("Complete")
    await plain.advance(1800)
    assert (await plain.result(run)).output == "HELLO"


async def test_what_nobody_executes_is_not_waited_for(tmp_path: Path) -> None:
    flow = {
        "apiVersion": "mastra.ai/v1",
        "kind": "Workflow",
        "metadata": {"name": "w"},
        "spec": {"steps": [{"id": "a", "set": {}}]},
    }
    async with ControlPlane(settings=Settings(project=tmp_path), execute=False) as env:
        await env.apply(flow)
        for waits in (env.run, env.rehearse):
            with pytest.raises(RuntimeError, match=r"ControlPlane\(execute=False\) leaves Runs Pending"):
                await waits("workflow/w")
        assert not (await env.client.list("runs")).items
        run = await env.start("workflow/w")
        with pytest.raises(RuntimeError, match="leave execute=False out"):
            await env.result(run)
