"""KnowledgeBases: documents are read from files, ConfigMaps and addresses, and found by agents, by words and by meaning."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kastra.config import Settings
from kastra.testing import ApplyFailed, ControlPlane
from tests.support.toolbox import site

from .objects import manifest

EMBEDDER = {"provider": "scripted", "parameters": {"dimensions": 256}}
PAGES = {
    "kb/returns.md": "# Shop\n\n## Returns\n\nGoods can be sent back within thirty days.\n\n## Shipping\n\nParcels leave on Mondays.\n",
    "kb/zh.md": "退货政策：商品可以在三十天内退回。",
    "kb/.hidden.md": "canary-hidden",
    "kb/picture.bin": "\0\1\2",
}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    for name, text in PAGES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    async with ControlPlane(settings=Settings(project=tmp_path, data=tmp_path / ".kastra")) as plane:
        yield plane


def base(name: str = "shop", **spec: Any) -> dict[str, Any]:
    return manifest("KnowledgeBase", name, {"sources": [{"file": "kb/*.md"}], **spec})


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": data}


def agent(*calls: tuple[str, dict[str, Any]], name: str = "a", tools: Any = (), **spec: Any) -> dict[str, Any]:
    rules: list[dict[str, Any]] = [
        {"when": f"size(results) == {n}", "call": {"tool": tool, "arguments": arguments}}
        for n, (tool, arguments) in enumerate(calls)
    ]
    rules.append({"object": {"results": "${{ results }}"}})
    model = {"provider": "scripted", "parameters": {"rules": rules}}
    fields = {"model": model, "tools": list(tools), "maxSteps": 20, "outputSchema": {"type": "object"}, **spec}
    return manifest("Agent", name, fields)


async def results(env: ControlPlane, name: str = "a") -> list[Any]:
    run = await env.run(f"agent/{name}", "go")
    found: list[Any] = run.output["results"]
    return found


async def call(env: ControlPlane, tool: str, bases: tuple[str, ...] = ("shop",), /, **arguments: Any) -> Any:
    """The result of one built-in tool."""
    use = {"builtin": {"name": tool, "bases": list(bases)}}
    await env.apply(agent((tool.replace(".", "_"), arguments), name="caller", tools=[use]))
    return (await results(env, "caller"))[0]


async def read(env: ControlPlane, name: str = "shop") -> dict[str, Any]:
    """The status of a base, once everything is read."""
    for _ in range(200):
        await env.settle()
        status = (await env.get("KnowledgeBase", name)).status
        if all(one["reason"] != "Reading" for one in status["conditions"]):
            return dict(status)
    raise AssertionError(status)


def said(status: dict[str, Any], kind: str = "Ready") -> tuple[str, str]:
    (found,) = [one for one in status["conditions"] if one["type"] == kind]
    return found["status"], found["reason"]


async def test_files_are_read_and_found_by_their_words_in_any_script(env: ControlPlane) -> None:
    await env.apply(base())
    status = await read(env)
    assert (said(status), said(status, "SourcesRead")) == (("True", "Read"), ("True", "Read"))
    assert (status["documents"], status["passages"], status["entries"]) == (2, 3, 0)
    found = (await call(env, "knowledge.search", query="How can goods be sent back?"))["passages"]
    assert found[0]["document"] == "kb/returns.md"
    assert found[0]["text"].startswith("Shop > Returns\n")
    found = (await call(env, "knowledge.search", query="怎么退货政策"))["passages"]
    assert [passage["document"] for passage in found] == ["kb/zh.md"]
    assert (await call(env, "knowledge.search", query="退货"))["passages"][0]["document"] == "kb/zh.md"
    assert (await call(env, "knowledge.search", query="canary-hidden xyzzy"))["passages"] == []


async def test_an_agent_searches_what_its_manifest_names_as_knowledge(env: ControlPlane) -> None:
    await env.apply(
        base(description="Rules of the shop."),
        agent(("knowledge_search", {"query": "parcels"}), knowledge=["shop"]),
    )
    await read(env)
    (told,) = await results(env)
    assert "Parcels leave on Mondays." in told["passages"][0]["text"]
    status = (await env.get("Agent", "a")).status
    assert "UnsupportedFeatures" not in {one["type"] for one in status["conditions"] if one["status"] == "True"}
    await env.apply(agent(knowledge=["gone"], name="b"))
    await env.settle()
    assert said((await env.get("Agent", "b")).status, "ResolvedRefs")[0] == "False"


async def test_what_changed_is_read_again_and_what_is_gone_is_found_no_more(env: ControlPlane) -> None:
    await env.apply(base(syncInterval="60s", embedder=EMBEDDER))
    await read(env)
    folder = env.settings.project / "kb"
    (folder / "returns.md").write_text("Goods can't be sent back any more.")
    (folder / "zh.md").unlink()
    await env.advance(61)
    status = await read(env)
    assert (status["documents"], status["passages"]) == (1, 1)
    found = (await call(env, "knowledge.search", query="thirty goods back"))["passages"]
    assert [passage["text"] for passage in found] == ["Goods can't be sent back any more."]
    assert (await call(env, "knowledge.search", query="退货政策"))["passages"][0]["document"] == "kb/returns.md"


async def test_a_config_map_is_read_anew_when_it_changes(env: ControlPlane) -> None:
    await env.apply(config_map(tea="Tea is green."), base(sources=[{"configMap": {"name": "notes"}}]))
    await read(env)
    assert (await call(env, "knowledge.read", document="tea"))["text"] == "Tea is green."
    await env.apply(config_map(tea="Tea is black.", mate="Mate is bitter."))
    await read(env)
    found = (await call(env, "knowledge.list", base="shop"))["documents"]
    assert [entry["document"] for entry in found] == ["mate", "tea"]
    assert (await call(env, "knowledge.read", document="tea"))["text"] == "Tea is black."


async def test_pages_are_read_as_markdown_through_the_guard(env: ControlPlane) -> None:
    async with site() as pages:
        pages.pages["/tea"] = (
            b"<html><head><title>Tea</title></head><body><main><h2>Green</h2><p>Two minutes.</p></main></body></html>"
        )
        page = {"url": f"{pages.url}/tea", "allowPrivate": True}
        await env.apply(base(sources=[page]), base("refused", sources=[{"url": "http://127.0.0.1:1/"}]))
        await read(env)
        found = (await call(env, "knowledge.search", query="minutes"))["passages"]
        assert (found[0]["document"], found[0]["text"]) == (f"{pages.url}/tea", "Tea > Green\nTwo minutes.")
        assert said(await read(env, "refused")) == ("False", "AddressRefused")


async def test_a_source_that_fails_keeps_what_was_read_before_and_says_so(env: ControlPlane) -> None:
    async with site() as pages:
        pages.pages["/tea"] = b"<p>Green tea.</p>"
        await env.apply(
            base(syncInterval="60s", sources=[{"url": f"{pages.url}/tea", "allowPrivate": True}, {"file": "kb/zh.md"}])
        )
        assert (await read(env))["documents"] == 2
        pages.pages["/tea"] = (500, {}, b"down")
        await env.advance(61)
        status = await read(env)
        assert (said(status), said(status, "Degraded")) == (("True", "Read"), ("True", "SourceFailed"))
        assert (await call(env, "knowledge.search", query="green"))["passages"][0]["text"] == "Green tea."
        pages.pages["/tea"] = b"<p>Black tea.</p>"
        await env.advance(61)
        status = await read(env)
        assert said(status, "Degraded") == ("False", "Read")


UNREADABLE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"file": "kb/none.md"}, "does not exist"),
    ({"file": "kb/picture.bin"}, "not a text file"),
    ({"file": "kb/link.md"}, "link"),
    ({"file": ".kastra/secret.key"}, "belongs to the server"),
    ({"configMap": {"name": "none"}}, "ConfigMap default/none does not exist"),
)


async def test_a_source_that_can_not_be_read_is_named(env: ControlPlane) -> None:
    data = env.settings.project / ".kastra"
    data.mkdir(exist_ok=True)
    (data / "secret.key").write_text("canary-4711")
    (env.settings.project / "kb/link.md").symlink_to(data / "secret.key")
    await env.apply(*(base(f"b{n}", sources=[source]) for n, (source, _) in enumerate(UNREADABLE)))
    for n, (_, words) in enumerate(UNREADABLE):
        status = await read(env, f"b{n}")
        assert said(status) == ("False", "SourceFailed")
        assert words in str(status["conditions"])
        assert (status["documents"], "canary" in str(status)) == (0, False)


SENSELESS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"sources": [{"file": "../x"}]}, "below the project folder"),
    ({"sources": [{"file": "/etc/passwd"}]}, "below the project folder"),
    ({"sources": [{"file": "a", "url": "http://x"}]}, "exactly one of"),
    ({"sources": [{}]}, "exactly one of"),
    ({"sources": [{"file": "a", "allowPrivate": True}]}, "goes with url"),
    ({"chunking": {"maxSize": 300, "overlap": 200}}, "half of maxSize"),
    ({"embedder": EMBEDDER, "modelRef": "m"}, "exactly one of embedder and modelRef"),
    ({"embedder": "opnai/x"}, "opnai"),
    ({"sources": [{"git": "x"}]}, "git"),
)


async def test_a_base_that_makes_no_sense_is_refused(env: ControlPlane) -> None:
    for spec, words in SENSELESS:
        with pytest.raises(ApplyFailed, match=words):
            await env.apply(base(**spec))


async def test_deleting_a_base_erases_what_it_held(env: ControlPlane) -> None:
    await env.apply(base())
    await read(env)
    await env.client.delete((await env.get("KnowledgeBase", "shop")).ref)
    await env.settle()
    await env.apply(base(sources=[]))
    assert (await read(env))["documents"] == 0


# --- entries ---------------------------------------------------------------------------------------------------------


async def test_entries_are_kept_replaced_found_by_meaning_and_metadata_and_forgotten(env: ControlPlane) -> None:
    await env.apply(base(sources=[], embedder=EMBEDDER))
    await read(env)
    tea = [
        {"id": "1", "text": "green tea from japan", "metadata": {"kind": "tea", "price": 4}},
        {"id": "2", "text": "black tea from india", "metadata": {"kind": "tea", "price": 9}},
        {"id": "3", "text": "green paint", "metadata": {"kind": "paint"}},
    ]
    assert await call(env, "vector.upsert", entries=tea) == {"kept": 3}
    found = (await call(env, "vector.query", text="green tea"))["entries"]
    assert found[0]["id"] == "1"
    assert found[0]["score"] > found[1]["score"]
    where = {"kind": "tea", "price": {"$gt": 5}}
    assert [one["id"] for one in (await call(env, "vector.query", text="green tea", where=where))["entries"]] == ["2"]
    await call(env, "vector.upsert", entries=[{"id": "1", "text": "nothing at all"}])
    found = (await call(env, "vector.query", text="japan green tea"))["entries"]
    assert "green tea from japan" not in {one["text"] for one in found}
    assert len(found) == 3
    assert await call(env, "vector.delete", ids=["1", "9"]) == {"deleted": 1}
    assert len((await call(env, "vector.query", text="tea"))["entries"]) == 2


async def test_reading_the_sources_leaves_entries_alone(env: ControlPlane) -> None:
    await env.apply(base(embedder=EMBEDDER, syncInterval="60s"))
    await read(env)
    await call(env, "vector.upsert", entries=[{"id": "kb/returns.md", "text": "an entry"}])
    await env.advance(61)
    status = await read(env)
    assert (status["documents"], status["entries"]) == (3, 1)


HOSTILE: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("vector_upsert", {"entries": []}, "from 1 to 100"),
    ("vector_upsert", {"entries": [{"id": "", "text": "x"}]}, "entries[0].id"),
    ("vector_upsert", {"entries": [{"id": "1", "text": " "}]}, "entries[0].text"),
    ("vector_upsert", {"entries": [{"id": "1", "text": "x" * 30_000}]}, "too many"),
    ("vector_upsert", {"entries": [{"id": "1", "text": "x", "vec": []}]}, "no field 'vec'"),
    ("vector_upsert", {"entries": [{"id": "1", "text": "x", "metadata": {"x": "y" * 9000}}]}, "metadata"),
    ("vector_upsert", {"entries": [{"id": "1", "text": "x"}] * 2}, "same id"),
    ("vector_query", {"text": " "}, "must hold a word"),
    ("vector_query", {"text": "x", "where": {"$where": "1"}}, "no such operator"),
    ("vector_query", {"text": "x", "where": {"a": {"$regex": ".*"}}}, "no such operator"),
    ("vector_query", {"text": "x", "base": "other"}, "is none of shop"),
    ("knowledge_search", {"query": "x", "base": "default/other"}, "is none of shop"),
    ("knowledge_search", {"query": "x" * 3000}, "at most 2000"),
    ("knowledge_read", {"document": "../../etc/passwd"}, "there is no document"),
)


async def test_what_makes_no_sense_is_refused_with_what_would(env: ControlPlane) -> None:
    tools = [{"builtin": {"name": group, "bases": ["shop"]}} for group in ("vector", "knowledge")]
    calls = [(tool, arguments) for tool, arguments, _ in HOSTILE]
    await env.apply(base(sources=[], embedder=EMBEDDER), base("other"), agent(*calls, tools=tools))
    status = await read(env)
    for (tool, _, words), told in zip(HOSTILE, await results(env), strict=True):
        assert words in told["error"]["title"], tool
    assert (await read(env))["entries"] == status["entries"] == 0


async def test_a_model_that_may_ask_several_bases_is_told_to_say_which(env: ControlPlane) -> None:
    tools = [{"builtin": {"name": "knowledge", "bases": ["shop", "other"]}}]
    await env.apply(base(), base("other"), agent(("knowledge_read", {"document": "kb/zh.md"}), tools=tools))
    assert (await results(env))[0]["error"]["title"] == "base: say which: shop, other"


async def test_an_embedder_that_fails_is_a_condition_and_is_asked_again(env: ControlPlane) -> None:
    async with site() as provider:
        spec = {"type": "openai-compatible", "baseURL": f"{provider.url}/v1", "allowPrivate": True}
        provider.pages["/v1/embeddings"] = (400, {"Content-Type": "application/json"}, b'{"error": {"message": "no"}}')
        await env.apply(
            manifest("ModelProvider", "p", spec),
            manifest("Model", "m", {"providerRef": "p", "name": "embed"}),
            base(sources=[{"file": "kb/zh.md"}], modelRef="m"),
        )
        status = await read(env)
        assert (said(status), status["passages"]) == (("False", "EmbedderFailed"), 0)
        answer = b'{"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": {"prompt_tokens": 1}}'
        provider.pages["/v1/embeddings"] = (200, {"Content-Type": "application/json"}, answer)
        await env.advance(61)
        status = await read(env)
        assert (said(status), status["passages"]) == (("True", "Read"), 1)
        (found,) = (await call(env, "knowledge.search", query="no common word"))["passages"]
        assert found["document"] == "kb/zh.md"


async def test_without_an_embedder_nothing_is_found_by_meaning_or_kept(env: ControlPlane) -> None:
    await env.apply(base())
    await read(env)
    for tool, arguments in (
        ("vector.query", {"text": "x"}),
        ("vector.upsert", {"entries": [{"id": "1", "text": "x"}]}),
    ):
        assert "has no embedder" in (await call(env, tool, **arguments))["error"]["title"]
    assert "no KnowledgeBase gone" in (await call(env, "knowledge.search", ("gone",), query="x"))["error"]["title"]


async def test_a_query_that_looks_like_one_of_the_index_is_only_words(env: ControlPlane) -> None:
    await env.apply(base())
    await read(env)
    for query in ('" OR 1=1 --', "goods AND NEAR(", "*", "%", "_", "text:goods", "'; DROP TABLE passages"):
        assert "passages" in await call(env, "knowledge.search", query=query)
