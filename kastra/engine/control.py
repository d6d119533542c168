"""The steps that hold steps, and those that need no runner: what each of them does, once.

Whatever depends on an expression is recorded as a decision together with what follows from it, so that a recovered Run
takes the same way although the state may have changed since. A body is a `Frame` of its own, whose stepKeys begin with the
step's and what tells the bodies apart: `each[3]/`, `poll#2/`, `route/case[0]/`.

Source: the state types of the Amazon States Language. Read next: `kastra.engine.executor`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kastra.api.durations import parse_duration

from . import waiting
from .branches import branches
from .checkpoints import checkpoints_of
from .context import Place, plain
from .expressions import Condition
from .frame import Entry, Frame, Result, Sight, Status
from .graph import Branch, Case, ForEach, Loop, Parallel, Scope, Sleep, Step
from .inputs import sight_within
from .records import RecordType
from .step import StepError

if TYPE_CHECKING:
    from .executor import Executor

_CHANGING = frozenset({"state", "lastError"})
_UNKNOWN = object()

Outcome = tuple[Any, int | None]
"""The output, and the index of the next step if this one decides it."""


async def perform(executor: "Executor", step: Step, place: Place, frame: Frame, value: Any, now: int) -> Outcome:
    """Do what a step without a runner is for.

    Args:
        value: its input.
        now: when it was scheduled, in milliseconds.

    Raises:
        StepError: it failed.
    """
    body = step.body
    if isinstance(body, Scope):
        return await executor.body(_inner(body, f"{place.key}/", frame, value)), None
    if isinstance(body, Parallel):
        return await _parallel(executor, body, place, frame, value), None
    if isinstance(body, Branch):
        return await _branch(executor, body, place, frame, value, now)
    if isinstance(body, Loop):
        return await _loop(executor, body, place, frame, value), None
    if isinstance(body, ForEach):
        return await _for_each(executor, body, place, frame, value, now), None
    if isinstance(body, Sleep):
        await _sleep(executor, body, place, sight_within(frame, now, value))
        # A pause is no step of the data: what came before goes on to what comes after.
        return value, None
    if isinstance(body, waiting.WAITS):
        return await waiting.perform(executor, body, place, sight_within(frame, now, value), step.sensitive), None
    data = body.evaluate(sight_within(frame, now, value))
    if step.kind == "raise":
        raise StepError(
            str(data.get("type")),
            str(data.get("title") or data.get("type")),
            retryable=False,
            details={key: data[key] for key in ("status", "detail") if key in data},
        )
    executor.export(place.key, data)
    return data, None


def _inner(scope: Scope, prefix: str, frame: Frame, entry: Any, names: Mapping[str, Any] | None = None) -> Frame:
    return Frame(scope, frame.facts, prefix, frame, entry, names)


def _decide(executor: "Executor", key: str, value: Any) -> Any:
    """Note a choice for the next commit, which comes before any effect that follows from it."""
    data = executor.journal.add(RecordType.DECISION, key, body={"value": value})
    return plain(value, data, "value")


# --- parallel ----------------------------------------------------------------------------------------------------


async def _parallel(executor: "Executor", body: Parallel, place: Place, frame: Frame, value: Any) -> dict[str, Any]:
    inner = _inner(body.scope, f"{place.key}/", frame, value)
    steps = iter(body.scope.steps)
    wanted = {"all": len(body.scope.steps), "any": 1}.get(str(body.join), body.join)
    errors: list[StepError] = []

    async with branches() as started:

        async def work() -> None:
            for step in steps:
                try:
                    await executor.step(step, inner.prefix + step.id, inner, Entry(value))
                except StepError as error:
                    if body.join == "all":
                        raise
                    errors.append(error)
                    inner.record(step, Result(Status.FAILED, None, error.problem()))
                    if isinstance(wanted, int) and len(body.scope.steps) - len(errors) < wanted:
                        raise
                executor.journal.start()
                if isinstance(wanted, int) and body.join != "all" and _successes(inner) >= wanted:
                    started.stop()
                    return

        for _ in range(min(body.limit or len(body.scope.steps), len(body.scope.steps))):
            started.start(work)
    failed = {step_id: {"error": r.error} for step_id, r in inner.results.items() if r.status is Status.FAILED}
    return {**inner.outputs(), **(failed if body.join == "settled" else {})}


def _successes(frame: Frame) -> int:
    return sum(result.status is Status.SUCCEEDED for result in frame.results.values())


# --- branch ------------------------------------------------------------------------------------------------------


async def _branch(executor: "Executor", body: Branch, place: Place, frame: Frame, value: Any, now: int) -> Outcome:
    taken = executor.past.decisions.get(place.key, _UNKNOWN)
    if taken is _UNKNOWN:
        taken = _decide(executor, place.key, _choose(body, sight_within(frame, now, value)))
    if not taken:
        return None, None
    cases = [body.default if index == "default" else body.cases[index] for index in taken]
    if body.every and taken != ["default"]:
        values: dict[str, Any] = {}

        async def run(index: int, case: Case) -> None:
            assert case.scope is not None, "a case of mode all has steps"
            values[str(index)] = await executor.body(_inner(case.scope, f"{place.key}/{case.segment}/", frame, value))
            executor.journal.start()

        async with branches() as started:
            for index, case in zip(taken, cases, strict=True):
                started.start(run, index, case)
        return {str(index): values[str(index)] for index in taken}, None
    case = cases[0]
    assert case is not None
    if case.scope is None:
        # A jump is no step of the data either.
        return value, case.next
    return await executor.body(_inner(case.scope, f"{place.key}/{case.segment}/", frame, value)), None


def _choose(body: Branch, sight: Sight) -> list[Any]:
    holding: list[Any] = []
    for index, case in enumerate(body.cases):
        if case.when is not None and case.when.holds(sight):
            holding.append(index)
            if not body.every:
                break
    return holding or (["default"] if body.default is not None else [])


# --- loop --------------------------------------------------------------------------------------------------------


async def _loop(executor: "Executor", body: Loop, place: Place, frame: Frame, value: Any) -> Any:
    previous = _inner(body.scope, f"{place.key}#0/", frame, None, {"iteration": 0})
    last: Any = None
    checkpoints = checkpoints_of(executor, place.key, body)
    # What the last iteration gave was recorded as the input of the first that is there, and isn't asked for again.
    for iteration in range(1 if checkpoints is None else checkpoints.first, body.limit + 1):
        key = f"{place.key}#{iteration}"
        if body.while_ is not None and not _goes_on(executor, f"{key}/while", body.while_, previous, True):
            return last
        if iteration > 1 and body.delay:
            await executor.execution.timer(key, executor.journal.now() + int(body.delay * 1000))
        inner = _inner(body.scope, f"{key}/", frame, value if iteration == 1 else last, {"iteration": iteration})
        previous, last = inner, await executor.body(inner)
        if body.until is not None and not _goes_on(executor, f"{key}/until", body.until, previous, False):
            return last
        if checkpoints is not None:
            await checkpoints.ended(iteration)
    if body.while_ is not None and not _goes_on(
        executor, f"{place.key}#{body.limit + 1}/while", body.while_, previous, True
    ):
        return last
    raise StepError("no_progress", f"the loop has not ended after {body.limit} iterations", retryable=False)


def _goes_on(executor: "Executor", key: str, condition: Condition, frame: Frame, wanted: bool) -> bool:
    """Whether a loop goes on, as recorded if it is."""
    known = executor.past.decisions.get(key, _UNKNOWN)
    if known is _UNKNOWN:
        known = _decide(executor, key, condition.holds(Sight(frame, executor.journal.now())) is wanted)
    return bool(known)


# --- forEach -----------------------------------------------------------------------------------------------------


async def _for_each(executor: "Executor", body: ForEach, place: Place, frame: Frame, value: Any, now: int) -> list[Any]:
    items = _items(executor, body, place, sight_within(frame, now, value))
    if body.batch:
        items = [items[start : start + body.batch] for start in range(0, len(items), body.batch)]
    tolerated = body.tolerated * len(items) / 100 if body.tolerated_share else body.tolerated
    values: list[Any] = [None] * len(items)
    pending = iter(enumerate(items))
    errors: list[StepError] = []

    async def work() -> None:
        for index, item in pending:
            names = {body.item_name: item, **({body.index_name: index} if body.index_name else {})}
            inner = _inner(body.scope, f"{place.key}[{index}]/", frame, item, names)
            try:
                values[index] = await executor.body(inner)
            except StepError as error:
                errors.append(error)
                if body.fail_fast and len(errors) > tolerated:
                    raise
            executor.journal.start()

    async with branches() as started:
        for _ in range(min(body.concurrency, len(items))):
            started.start(work)
    if len(errors) > tolerated:
        raise errors[0]
    return values


def _items(executor: "Executor", body: ForEach, place: Place, sight: Sight) -> list[Any]:
    if not isinstance(body.items, Condition):
        return list(body.items)
    key = f"{place.key}/items"
    if key in executor.past.decisions:
        return list(executor.past.decisions[key])
    found = body.items.evaluate(sight)
    if not isinstance(found, list):
        raise StepError("expression", f"{body.items.text}: a forEach needs a list", retryable=False)
    if body.items.references.roots & _CHANGING:
        found = _decide(executor, key, found)
    return list(found)


# --- sleep -------------------------------------------------------------------------------------------------------


async def _sleep(executor: "Executor", body: Sleep, place: Place, sight: Sight) -> None:
    key = place.key
    if key in executor.past.timers:
        due = executor.past.timers[key]
    else:
        due = _due(body, sight, executor.journal.now())
    await executor.execution.timer(key, due)


def _due(body: Sleep, sight: Sight, now: int) -> int:
    value: Any = body.time if body.until else body.seconds
    try:
        if body.expression is not None:
            value = body.expression.evaluate(sight)
            if not body.until:
                value = parse_duration(value)
        if not body.until:
            return now + int(value * 1000)
        moment = datetime.fromisoformat(str(value))
        if moment.tzinfo is None:
            raise ValueError(f'"{value}" has no offset; write it with Z or +hh:mm')
        return int(moment.astimezone(UTC).timestamp() * 1000)
    except (ValueError, TypeError) as error:
        raise StepError("expression", f"a sleep needs a duration or a time: {error}", retryable=False) from None
