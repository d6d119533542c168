"""A deadline ends what takes too long, whether it has a timer of its own or not, and nothing else."""

import anyio
import pytest

from kastra.apiserver.deadlines import DeadlineExceeded, Deadlines

KINDS = pytest.mark.parametrize("exact", [10.0, 0.0], ids=["a timer of its own", "one clock for all"])


@KINDS
async def test_what_takes_too_long_is_cancelled(exact: float) -> None:
    deadlines = Deadlines(exact=exact, tick=0.001)
    ended = anyio.Event()

    async def hangs() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with pytest.raises(DeadlineExceeded):
        await deadlines.within(0.01, hangs())
    assert ended.is_set()


@KINDS
async def test_one_that_is_late_takes_no_other_with_it(exact: float) -> None:
    deadlines = Deadlines(exact=exact, tick=0.001)
    release = anyio.Event()
    outcomes: list[str] = []

    async def patient() -> None:
        await deadlines.within(60, release.wait())
        outcomes.append("done")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patient)
        with pytest.raises(DeadlineExceeded):
            await deadlines.within(0.01, anyio.sleep_forever())
        release.set()
    assert outcomes == ["done"]


@KINDS
async def test_a_timeout_of_the_work_itself_is_passed_on(exact: float) -> None:
    async def fails() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await Deadlines(exact=exact).within(30, fails())


@KINDS
async def test_who_is_cancelled_from_outside_stays_cancelled(exact: float) -> None:
    deadlines = Deadlines(exact=exact, tick=0.001)
    with anyio.move_on_after(0.01) as scope:
        await deadlines.within(30, anyio.sleep_forever())
    assert scope.cancelled_caught
    await deadlines.within(30, anyio.sleep(0))
