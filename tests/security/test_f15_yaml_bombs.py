"""F15: any composition of anchors, aliases and merge keys is read within bounds, or refused within 50 ms, with its place."""

import gc
import resource
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kastra
from kastra.manifest.decode import MAX_NODES, DecodeError, decode

SAMPLE, ALL = 150, 10_000
SLOW_MACHINE = 6
"""How much slower than the machine of the criterion, and how busy, the one that runs this may be."""

NAMES = st.sampled_from([f"n{number}" for number in range(6)])


def anchored(text: str, name: str | None) -> str:
    return f"&{name} {text}" if name else text


def collections(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    names = st.none() | NAMES
    repeats = st.integers(1, 30)
    pairs = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "<<", "*n0 ", "? [x]"]), inner), max_size=5)
    return st.one_of(
        st.builds(lambda item, times, name: anchored(f"[{', '.join([item] * times)}]", name), inner, repeats, names),
        st.builds(lambda items, name: anchored(f"[{', '.join(items)}]", name), st.lists(inner, max_size=5), names),
        st.builds(
            lambda members, name: anchored("{" + ", ".join(f"{k}: {v}" for k, v in members) + "}", name), pairs, names
        ),
    )


NODES = st.recursive(
    st.one_of(st.sampled_from(["x", "1", "'y'", "~", "&n1 z"]), NAMES.map(lambda name: f"*{name}")),
    collections,
    max_leaves=12,
)


@st.composite
def ladders(draw: st.DrawFn) -> str:
    """Each rung uses the one below several times: the classic bomb, and everything that resembles it."""
    rungs, width = draw(st.integers(2, 40)), draw(st.integers(1, 12))
    forms = draw(st.lists(st.sampled_from("lmdk"), min_size=rungs, max_size=rungs))
    lines = [f"r0: &r0 {draw(NODES)}"] if draw(st.booleans()) else ["r0: &r0 {k: v}"]
    for rung, form in enumerate(forms, start=1):
        below = f"*r{rung - 1}"
        body = {
            "l": f"[{', '.join([below] * width)}]",
            "m": f"{{<<: {below}, k{rung}: v}}",
            "d": f"{{<<: [{', '.join([below] * width)}], k{rung}: {below}}}",
            "k": "{" + ", ".join(f"k{index}: {below}" for index in range(width)) + "}",
        }[form]
        lines.append(f"r{rung}: &r{rung} {body}")
    return "\n".join(lines)


DOCUMENTS = st.lists(ladders() | NODES | NODES.map(lambda node: f"k: {node}\nl: *n0"), min_size=1, max_size=3).map(
    "\n---\n".join
)


def count(value: object) -> int:
    """Nodes of a value, keys counted."""
    nodes, stack = 0, [value]
    while stack:
        nodes += 1
        found = stack.pop()
        if isinstance(found, dict):
            nodes += len(found)
            stack.extend(found.values())
        elif isinstance(found, list):
            stack.extend(found)
    return nodes


def test_every_composition_of_aliases_is_bounded(crash_full: bool) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=ALL if crash_full else SAMPLE,
        deadline=None,
        derandomize=not crash_full,
        suppress_health_check=list(HealthCheck),
    )
    @given(DOCUMENTS)
    def check(text: str) -> None:
        started = time.thread_time()
        try:
            documents = decode(text.encode())
        except DecodeError as error:
            assert time.thread_time() - started < 0.05 * SLOW_MACHINE, "refused in milliseconds"
            assert 1 <= error.line <= text.count("\n") + 1
            assert len(str(error)) < 500
        else:
            # Merged keys may be counted twice: where they were written and where they went.
            assert sum(count(document.value) for document in documents) <= 2 * MAX_NODES

    # What other tests have left in this process is not to be looked through by the collector meanwhile.
    gc.freeze()
    try:
        check()
    finally:
        gc.unfreeze()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000


def bomb(width: int = 9, height: int = 9) -> str:
    lines = ["l0: &l0 [" + ", ".join("x" * width) + "]"]
    lines += [f"l{n}: &l{n} [" + ", ".join([f"*l{n - 1}"] * width) + "]" for n in range(1, height)]
    return "\n".join(lines)


async def test_a_bomb_among_good_files_is_reported_and_nothing_is_sent(tmp_path) -> None:
    (tmp_path / "good.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n")
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\n"
    (tmp_path / "bomb.yaml").write_text(head + bomb())
    (tmp_path / "cycle.yaml").write_text(head + "data: &a {x: *a}\n")
    merges = "\n".join(["m0: &m0 {k0: v}"] + [f"m{n}: &m{n} {{<<: *m{n - 1}, k{n}: v}}" for n in range(1, 3000)])
    (tmp_path / "merges.yaml").write_text(head + merges)
    async with kastra.open(":memory:", reconcile=False) as k:
        report = await k.apply(tmp_path)
        assert not report.ok
        assert report.applied == []
        places = {problem.file.rpartition("/")[2]: str(problem).partition(" ")[0] for problem in report.problems}
        assert set(places) == {"bomb.yaml", "cycle.yaml", "merges.yaml"}
        assert places["cycle.yaml"].endswith("cycle.yaml:4:14")
        assert (await k.client.list("configmaps")).items == []
        again = await k.apply(tmp_path, keep_going=True)
        assert [applied.ref.name for applied in again.applied] == ["good"]
