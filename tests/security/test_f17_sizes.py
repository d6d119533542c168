"""F17: what is too large is refused before it is read in, and what is merely large doesn't hold up the event loop."""

import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import kastra
from kastra.api.errors import RequestEntityTooLarge, StatusError
from kastra.api.meta import ObjectRef
from kastra.client.interface import PatchType
from kastra.manifest.decode import MAX_BYTES, MAX_NODES
from kastra.manifest.loader import load

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n"
BAG = ObjectRef("bags", "b", "default")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(HEAD + "  k: " + "x" * MAX_BYTES, "more than 3,145,728 bytes", id="3 MB and a little"),
        pytest.param(HEAD + "  k: |\n    " + "x" * 5_000_000, "more than 3,145,728 bytes", id="a scalar of 5 MB"),
        pytest.param(
            HEAD + "".join(f"  k{n}: v\n" for n in range(MAX_NODES // 2)), "more than 200,000 nodes", id="100,000 keys"
        ),
        pytest.param(HEAD + "  k: " + "9" * 1_000_000, "does not fit 64 bits", id="a number of a million digits"),
        pytest.param("---\na: 1\n" * 10_001, "more than 10,000 documents", id="10,001 documents"),
    ],
)
def test_a_file_beyond_a_limit_is_one_error_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "big.yaml"
    file.write_text(text)
    loaded = load([file])
    assert loaded.manifests == []
    [problem] = loaded.errors
    assert says in problem.message
    assert problem.file == str(file)
    assert len(str(problem)) < 500


def test_a_file_beyond_the_limit_is_not_even_parsed(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    # Would take minutes.
    file.write_text("[" + "1," * 50_000_000 + "]")
    started = time.thread_time()
    assert load([file]).errors
    assert time.thread_time() - started < 0.5


def test_a_device_without_end_is_read_up_to_the_limit() -> None:
    [problem] = load(["/dev/zero"]).errors
    assert "more than 3,145,728 bytes" in problem.message


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write(HEAD + "  k: v\n")
    with os.fdopen(reading):
        loaded = load([f"/dev/fd/{reading}"])
    assert [manifest.ref.name for manifest in loaded.manifests] == ["big"]


def bag(value: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Bag", "metadata": {"name": "b"}, "spec": {"x": value}}


async def test_an_object_too_large_for_the_store_is_refused_and_nothing_changes(client) -> None:
    large = "x" * 1_600_000
    with pytest.raises(RequestEntityTooLarge) as refused:
        await client.create(bag(large))
    assert refused.value.status()["code"] == 413
    made = await client.create(bag("small"))
    for change in (
        client.patch(BAG, {"spec": {"x": large}}),
        client.patch(BAG, [{"op": "add", "path": "/spec/x", "value": large}], PatchType.JSON),
        client.apply(bag(large), force=True),
        client.update({**made.to_dict(), "spec": {"x": large}}),
    ):
        with pytest.raises(RequestEntityTooLarge):
            await change
    assert await client.get(BAG) == made


async def test_a_patch_can_not_grow_an_object_by_copying(client) -> None:
    await client.create(bag(["y" * 100_000]))
    grow = [{"op": "copy", "from": "/spec/x", "path": "/spec/x/-"}] * 30
    with pytest.raises(StatusError) as refused:
        await client.patch(BAG, grow * 10, PatchType.JSON)
    assert refused.value.status()["code"] in (413, 422)


async def test_one_object_too_large_is_reported_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: small}\n---\n" + HEAD + f"  k: {'x' * 1_100_000}\n"
    )
    async with kastra.open(":memory:", reconcile=False) as k:
        report = await k.apply(tmp_path)
        [error] = [problem for problem in report.problems if problem.severity == "error"]
        assert error.mark.line == 5
        assert "may not be more than 1048576 bytes" in error.message
        assert [applied.ref.name for applied in report.applied] == ["small"]


async def test_reading_and_checking_much_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    """What remains is the garbage collector's; reading and checking at a stretch would be all of the time it takes."""
    documents = [f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{n}}}\ndata: {{k: v}}\n" for n in range(9_000)]
    (tmp_path / "many.yaml").write_text("---\n".join(documents))
    (tmp_path / "poison.yaml").write_text("kind: ConfigMap\n")
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            since = time.perf_counter()
            await anyio.sleep(0.001)
            longest = max(longest, time.perf_counter() - since)

    async with kastra.open(":memory:", reconcile=False) as k, anyio.create_task_group() as group:
        group.start_soon(tick)
        started = time.perf_counter()
        report = await k.apply(tmp_path)
        took = time.perf_counter() - started
        group.cancel_scope.cancel()
    assert report.not_applied == 9_000
    assert longest < took / 2
