"""What may a Run, or one step of it, still consume?

Every call of a model or a tool is reserved before it is made: one call, and the tokens and dollars that it may come to. The
reservation is durable before the call and settled by what the call says that it consumed; after a crash it stays as it was
made. So what is counted is never less than what was spent. A call for which there is no room isn't made: the limit fails the
step, ends it with what there is, or suspends the Run until somebody raises it.

Limits hold at places: of the Run, and of each step with a `budget` for everything below it. Reservations of branches that go
on at the same time can't add up to more than a limit. What a child Run consumed is counted when it has ended; it begins with
what is left.

Source: admission by quota, as Kubernetes' ResourceQuota; hierarchical budgets. Read next: `kastra.engine.context`, which asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from .consumption import FIELDS, Amount, consumed, covers, releases
from .holds import Question
from .records import RecordType
from .step import StepError

if TYPE_CHECKING:
    from .execution import Execution


@dataclass(slots=True)
class Account:
    """What one place may consume, and has."""

    place: str
    limits: dict[str, float]
    action: str
    spent: Amount
    raised: int = 0
    asking: anyio.Event | None = None

    def lacks(self, wanted: Amount) -> str:
        """The limit that has no room for so much more; empty if all have."""
        for name, spent, more in zip(FIELDS, self.spent, wanted, strict=True):
            limit = self.limits.get(name)
            if limit is None:
                continue
            # A limit on tokens or dollars that is reached is no room, also for a call that nobody can estimate.
            reached = wanted.model_calls > 0 and name in FIELDS[:2] and spent >= limit
            if reached or (more > 0 and spent + more > limit):
                return name
        return ""

    @property
    def name(self) -> str:
        """For people."""
        return f"the step {self.place}" if self.place else "the Run"


def merged(*specs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Budgets that all hold at the same place as one: the least of each limit, the first action given."""
    found: dict[str, Any] = {}
    for spec in specs:
        if not spec:
            continue
        for name in FIELDS:
            limit = spec.get(name)
            if limit is not None:
                found[name] = min(limit, found.get(name, limit))
        if spec.get("onExceeded"):
            found.setdefault("onExceeded", spec["onExceeded"])
    return found if any(name in found for name in FIELDS) else None


class Ledger:
    """The budgets of one Run.

    Args:
        execution: the Run.
        budget: its own limits; None if only steps of it have some.
    """

    def __init__(self, execution: "Execution", budget: Mapping[str, Any] | None) -> None:
        self._execution = execution
        self._accounts: dict[str, Account] = {}
        self._texts: dict[str, Any] = {}
        if budget is not None:
            self.open("", budget)

    def open(self, place: str, budget: Mapping[str, Any]) -> None:
        """Let a budget hold for everything at and below a place."""
        limits = {name: float(budget[name]) for name in FIELDS if budget.get(name) is not None}
        spent = self._execution.past.consumption.below(place)
        account = Account(place, limits, budget.get("onExceeded") or "fail", spent)
        resumed = self._execution.past.resumed
        while (key := _question(account)) in resumed and key not in self._execution.past.held:
            # It was raised before the process died.
            account.raised += 1
            account.limits.update(_raised(resumed[key]))
        self._accounts[place] = account

    def close(self, place: str) -> None:
        """The place is done."""
        self._accounts.pop(place, None)

    def conclude(self) -> None:
        """What is left to do must be done whatever the Run has consumed; limits of single steps still hold."""
        self._accounts.clear()

    async def reserve(self, key: str, attempt: int, kind: str, estimate: Mapping[str, float]) -> Amount:
        """Reserve a call at `key`; returns what was reserved. The record is noted, not yet durable.

        Args:
            kind: model or tool.
            estimate: the most `tokens` and `cost` (US dollars) that it may come to, as far as that is known.

        Raises:
            StepError: there is no room (type `budget`).
        """
        calls = (1.0, 0.0) if kind == "model" else (0.0, 1.0)
        tokens, cost = (estimate.get("tokens", 0.0), estimate.get("cost", 0.0)) if kind == "model" else (0.0, 0.0)
        wanted = Amount(tokens, cost, *calls)
        while True:
            over = [(account, limit) for account in self._covering(key) if (limit := account.lacks(wanted))]
            if not over:
                break
            # The innermost place first: what it does about it may spare the ones around.
            await self._exceeded(*over[-1], key, wanted)
        body = {"amount": wanted.plain()}
        self._execution.journal.add(RecordType.RESERVED, key, attempt, body)
        self._spend(key, wanted)
        return wanted

    def settle(self, key: str, reserved: Amount, value: Any) -> None:
        """A call has given `value`: what it consumed counts in place of what was reserved."""
        plain = value if isinstance(value, Mapping) else {}
        usage = plain.get("usage")
        tokens, cost = consumed(usage if isinstance(usage, Mapping) else {})
        self._spend(key, Amount(tokens - reserved.tokens, cost - reserved.cost))
        if reserved.model_calls and plain.get("text"):
            for account in self._covering(key):
                self._texts[account.place] = plain["text"]

    def release(self, key: str, reserved: Amount, error: StepError) -> None:
        """A call has failed: it counts as a call; its tokens are given back unless it may have been answered."""
        if releases(error.type):
            self._spend(key, Amount(-reserved.tokens, -reserved.cost))

    def charge(self, key: str, usage: Mapping[str, Any]) -> None:
        """Something that was reserved nowhere, a child Run, reports what it consumed."""
        tokens, cost = consumed(usage)
        self._spend(key, Amount(tokens, cost, float(usage.get("calls") or 0)))

    def left(self, key: str) -> dict[str, Any] | None:
        """What a child Run at `key` may consume: the least that any budget around it has left; None for no limit."""
        found: dict[str, Any] = {}
        for account in self._covering(key):
            for name, spent in zip(FIELDS, account.spent, strict=True):
                if name in account.limits:
                    rest = max(0.0, account.limits[name] - spent)
                    found[name] = min(rest, found.get(name, rest))
        if not found:
            return None
        return {name: value if name == "maxCostUSD" else int(value) for name, value in found.items()}

    def text(self, place: str) -> Any:
        """The last text that a model gave below a place; None if there was none."""
        return self._texts.get(place)

    def _covering(self, key: str) -> list[Account]:
        return [account for place, account in self._accounts.items() if covers(place, key)]

    def _spend(self, key: str, amount: Amount) -> None:
        self._execution.past.consumption.add(key, amount)
        for account in self._covering(key):
            account.spent = account.spent.plus(amount)

    async def _exceeded(self, account: Account, limit: str, key: str, wanted: Amount) -> None:
        """Do what is to be done at a limit; returns if it was raised.

        Raises:
            StepError: it wasn't (type `budget`); with the detail `finish` the place named there ends with what there is.
        """
        journal = self._execution.journal
        most, spent = account.limits[limit], account.spent[FIELDS.index(limit)]
        details: dict[str, Any] = {"limit": limit, "of": account.place, "max": most, "spent": spent}
        message = f"{limit} of {account.name} is {most:g}; {spent:g} are spent or reserved, and this call needs more"
        if account.action == "suspend":
            question = _question(account)
            if question not in self._execution.past.held and account.asking is None:
                journal.add(RecordType.BUDGET_EXCEEDED, account.place or None, body={**details, "action": "suspend"})
            if account.asking is not None:
                # Another branch has asked already.
                await account.asking.wait()
                return
            account.asking = anyio.Event()
            try:
                answer = await self._execution.holds.ask(question, Question("BudgetExceeded", {"payload": details}))
            finally:
                account.asking.set()
                account.asking = None
            account.raised += 1
            raised = _raised(answer)
            if raised:
                account.limits.update(raised)
                return
            message += "; it was not raised"
        else:
            journal.add(RecordType.BUDGET_EXCEEDED, account.place or None, body={**details, "action": account.action})
            if account.action == "finish":
                details["finish"] = account.place
        raise StepError("budget", message, retryable=False, details=details)


def _question(account: Account) -> str:
    place = f"{account.place}/" if account.place else ""
    return f"{place}budget[{account.raised}]"


def _raised(answer: Any) -> dict[str, float]:
    """The limits that an answer sets."""
    if not isinstance(answer, Mapping):
        return {}
    numbers = {name: answer.get(name) for name in FIELDS}
    return {n: float(v) for n, v in numbers.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def finishes(error: StepError, place: str) -> bool:
    """Whether a budget is used up whose place shall end with what there is."""
    return error.type == "budget" and error.details.get("finish") == place
