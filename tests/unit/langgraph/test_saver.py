"""What the checkpointer refuses, keeps apart, and keeps to itself."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from kastra import failpoint
from kastra.api.errors import InternalError, ServiceUnavailable
from kastra.langgraph import KastraSaver
from kastra.sql.driver import choose, open_writer
from kastra.sql.migrations import SchemaTooNew
from kastra.sql.owner import Owned


@dataclass
class Order:
    number: int


@pytest.fixture
def saver() -> Iterator[KastraSaver]:
    with KastraSaver(":memory:") as opened:
        yield opened


def config(thread: Any = "t", **more: Any) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **more}}


def put(saver: KastraSaver, values: dict[str, Any], thread: str = "t", **metadata: Any) -> Any:
    versions = {name: saver.get_next_version(None, None) for name in values}
    checkpoint = {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}
    told: Any = {"source": "loop", "step": 1, "parents": {}, **metadata}
    return saver.put(config(thread), checkpoint, told, versions)  # type: ignore[arg-type]


def test_importing_kastra_never_imports_langgraph() -> None:
    code = (
        "import sys, kastra, kastra.app.embedded, kastra.cli.main, kastra.testing.control_plane;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('langgraph', 'langchain_core')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_missing_langgraph_is_named_with_the_extra_that_brings_it() -> None:
    code = "import sys; sys.modules['langgraph'] = None\nimport kastra.langgraph"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'kastra[langgraph]'" in found.stderr


def test_a_file_has_one_owner_at_a_time(tmp_path: Path) -> None:
    with KastraSaver(tmp_path / "g.db"), pytest.raises(Owned, match=r"g\.db is in use by"):
        KastraSaver(tmp_path / "g.db", wait=0)
    with KastraSaver(tmp_path / "g.db", wait=0) as later:
        assert later.get_tuple(config()) is None


def test_a_closed_checkpointer_says_so(tmp_path: Path) -> None:
    saver = KastraSaver(tmp_path / "g.db")
    saver.close()
    saver.close()
    with pytest.raises(ServiceUnavailable, match="the checkpointer is closed"):
        put(saver, {"x": 1})
    with pytest.raises(ServiceUnavailable, match="the checkpointer is closed"):
        saver.get_tuple(config())


def test_tables_of_a_newer_kastra_are_refused(tmp_path: Path) -> None:
    KastraSaver(tmp_path / "g.db").close()
    connection = open_writer(tmp_path / "g.db", choose(tmp_path / "g.db"))
    connection.execute("UPDATE meta SET i = 99 WHERE k = 'langgraph_schema'")
    connection.close()
    with pytest.raises(SchemaTooNew, match="checkpoints at schema 99, this Kastra knows 1"):
        KastraSaver(tmp_path / "g.db")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda saver: saver.get_tuple({"configurable": {}}), "say which thread"),
        (lambda saver: put(saver, {"x": 1}, "a\0b"), "thread_id holds a NUL"),
        (lambda saver: put(saver, {"a\0": 1}), "a channel holds a NUL"),
        (lambda saver: saver.put_writes(config(), [("x", 1)], "task"), "checkpoint_id"),
        (lambda saver: saver.prune(["t"], strategy="oldest"), "choose one of keep_latest, delete"),
        (lambda saver: saver.copy_thread("t", "t"), "can't be copied to itself"),
        (lambda saver: KastraSaver(":memory:", durability="none"), "choose power or process"),
        (lambda saver: KastraSaver(":memory:", serde=saver.serde, allow=[Order]), "your own serde"),
    ],
    ids=["thread", "nul", "channel", "writes", "strategy", "copy", "durability", "serde"],
)
def test_wrong_calls_are_refused_with_what_to_do(saver: KastraSaver, call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(saver)


def test_only_types_that_were_allowed_are_made_of_what_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with KastraSaver(tmp_path / "g.db") as saver, caplog.at_level(logging.ERROR):
        put(saver, {"order": Order(7)})
        strict = saver.get_tuple(config())
    with KastraSaver(tmp_path / "g.db", allow=[Order]) as saver:
        allowed = saver.get_tuple(config())

    assert strict is not None
    assert not isinstance(strict.checkpoint["channel_values"]["order"], Order)
    assert allowed is not None
    assert allowed.checkpoint["channel_values"]["order"] == Order(7)


def test_a_key_hides_values_writes_and_metadata(tmp_path: Path) -> None:
    with KastraSaver(tmp_path / "g.db", key=tmp_path / "secret.key") as saver:
        at = put(saver, {"x": "a-secret-value"}, note="a-secret-note")
        saver.put_writes(at, [("x", "a-secret-write")], "task")
        found = saver.get_tuple(config())
        assert found is not None
        assert found.pending_writes == [("task", "x", "a-secret-write")]
        assert [one.metadata["note"] for one in saver.list(None, filter={"note": "a-secret-note"})] == ["a-secret-note"]  # type: ignore[typeddict-item]

    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    assert b"a-secret" not in (tmp_path / "g.db").read_bytes()
    (tmp_path / "other.key").write_bytes(bytes(32))
    with KastraSaver(tmp_path / "g.db", key=tmp_path / "other.key") as saver, pytest.raises(InternalError):
        saver.get_tuple(config())


def test_a_list_is_newest_first_across_pages_and_stops_at_its_limit(saver: KastraSaver) -> None:
    made = [put(saver, {"x": number}, n=number % 3)["configurable"]["checkpoint_id"] for number in range(130)]

    everything = [found.config["configurable"]["checkpoint_id"] for found in saver.list(config())]
    some = [found.checkpoint["channel_values"]["x"] for found in saver.list(config(), filter={"n": 1}, limit=30)]

    assert everything == sorted(made, reverse=True)
    assert some == [number for number in range(129, -1, -1) if number % 3 == 1][:30]
    assert list(saver.list(config(), limit=0)) == []


def test_values_that_nothing_refers_to_any_more_are_removed(tmp_path: Path) -> None:
    with KastraSaver(tmp_path / "g.db") as saver:
        for number in range(20):
            put(saver, {"x": "y" * 50_000 + str(number)}, run_id="a" if number < 10 else "b")
        saver.delete_for_runs(["a"])
        assert len(list(saver.list(config()))) == 10
        saver.prune(["t"])
        left = saver.get_tuple(config())
        assert left is not None
        assert left.checkpoint["channel_values"]["x"].endswith("19")

    reader = open_writer(tmp_path / "g.db", choose(tmp_path / "g.db"))
    assert reader.query("SELECT count(*) FROM lg_blobs") == [(1,)]
    reader.close()


def test_ids_of_threads_may_be_numbers_and_any_text(saver: KastraSaver) -> None:
    for thread in (7, "'; DROP TABLE lg_blobs; --", "Zoë/🦊", "a" * 5_000):
        put(saver, {"x": str(thread)}, thread)  # type: ignore[arg-type]
        found = saver.get_tuple(config(thread))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"x": str(thread)}


def test_versions_of_a_channel_rise_and_are_never_equal(saver: KastraSaver) -> None:
    first = saver.get_next_version(None, None)
    twins = {saver.get_next_version(first, None), saver.get_next_version(first, None)}
    assert len(twins) == 2
    assert all(twin > first for twin in twins)
    assert saver.get_next_version(41, None).startswith("0" * 30 + "42.")


def test_a_graph_may_widen_what_is_allowed_for_itself(tmp_path: Path) -> None:
    with KastraSaver(tmp_path / "g.db") as saver:
        put(saver, {"order": Order(7)})
        wider = saver.with_allowlist({(Order.__module__, Order.__name__)})
        found = wider.get_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"]["order"] == Order(7)


def test_a_disk_that_refuses_fails_the_call_and_not_the_checkpointer(tmp_path: Path) -> None:
    with KastraSaver(tmp_path / "g.db") as saver:
        kept = put(saver, {"x": 1})
        failpoint.arm("sql.before_commit=raise@1")
        try:
            with pytest.raises(ServiceUnavailable, match="can't be written now"):
                put(saver, {"x": 2})
        finally:
            failpoint.arm("")
        found = saver.get_tuple(config())
        assert found is not None
        assert found.config == kept
        put(saver, {"x": 3})
        assert len(list(saver.list(config()))) == 2
