"""What `kastra dev` shows: a log of what came of each change, and below it, on a terminal, one line with the state of all.

    12:01:02  tool/search            configured   Ready       48ms
    12:01:40  controllers/shop.py    controller order loaded  92ms
    https://127.0.0.1:6443  Agent 2/2  Tool 3/4

Lines are printed once and stay; the last one is rewritten in the same write as what comes above it, so nothing flickers.
Without a terminal there is a plain line per event. What objects and files say never reaches the terminal as a command.

Read next: `kastra.app.development`, whose rounds are shown, and `kastra.cli.readiness`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from kastra.api.meta import DEFAULT_NAMESPACE

from .layout import one_line
from .readiness import Readiness, readiness

if TYPE_CHECKING:
    from kastra.api.meta import ObjectRef
    from kastra.api.object import Object
    from kastra.app.applying import Applied
    from kastra.app.development import Development, Round
    from kastra.manifest.problem import Problem

_NAME = 30
_QUIET = ("success", "requeue", "conflict", "terminating")
"""Outcomes of reconciles that say nothing to somebody who is writing manifests."""
_NOT_COUNTED = ("Run", "CustomResourceDefinition")
_CLEAR = "\r\x1b[2K"
_RED, _GREEN, _DIM, _END = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[0m"


class _Key(NamedTuple):
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        parts = [self.kind.lower(), self.namespace if self.namespace != DEFAULT_NAMESPACE else "", self.name]
        return "/".join(filter(None, parts))


class DevView:
    """Shows rounds and outcomes.

    Args:
        write: puts text out, at once.
        now: the time of day.
        terminal: whether there is a line at the bottom to be rewritten.
        color: whether lines may be coloured.
        width: of the terminal, in characters, as it is at the moment.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        now: Callable[[], datetime],
        *,
        terminal: bool,
        color: bool,
        width: Callable[[], int],
    ) -> None:
        self._write = write
        self._now = now
        self._terminal = terminal
        self._color = color
        self._width = width
        self._title = ""
        self._begun = False
        self._errors: list[Problem] = []
        self._states: dict[_Key, Readiness] = {}
        self._failures: dict[_Key, str] = {}
        self._waiting: list[Mapping[str, Any]] = []
        self._counts = ""

    def header(self, title: str, lines: list[str]) -> None:
        """What stands at the beginning; the title stays in sight."""
        self._title = one_line(title)
        self._print([one_line(line) for line in lines])

    def round(self, done: "Round", development: "Development") -> None:
        """A change has been acted on."""
        lines = [self._line(name, what, done.seconds[0]) for name, what in done.reloaded]
        lines += [line for one in done.applied if (line := self._applied(one, done, development))]
        quiet = sum(one.verb == "unchanged" for one in done.applied)
        if quiet and not lines:
            lines.append(self._line(self._names(done), f"{quiet} unchanged", done.seconds[1]))
        lines += [self._line(name, note) for name, note in done.notes]
        lines += [self._line(name, "mended", shade=_GREEN) for name in dict.fromkeys(done.mended)]
        told = {_Key(one.ref.kind.partition(".")[0], one.ref.namespace, one.ref.name) for one in done.applied}
        for outcome in self._waiting:
            lines += self._outcome(outcome, development, silent=self._key(outcome) in told or not self._begun)
        self._waiting.clear()
        lines += self._problems(done)
        if not self._begun:
            for obj in development.objects():
                self._learn(_Key(obj.kind, obj.namespace, obj.name), obj)
            lines += [self._state(key, state) for key, state in self._states.items() if state.status != "True"]
        if not done.settled:
            lines.append(self._line(self._names(done), "controllers are still at work"))
        self._begun = True
        counts = self._summary()
        if not self._terminal and counts != self._counts:
            lines.append(self._line("ready", counts))
        self._counts = counts
        self._print(lines)

    def outcome(self, outcome: Mapping[str, Any], development: "Development") -> None:
        """A reconcile has ended. While a change is acted on, what it led to is told with it."""
        if development.busy or not self._begun:
            self._waiting.append(outcome)
        else:
            self._print(self._outcome(outcome, development))

    def close(self) -> None:
        """Leave the terminal as it is expected to be."""
        if self._terminal:
            self._write(_CLEAR)

    # ---- lines

    def _applied(self, one: "Applied", done: "Round", development: "Development") -> str:
        if one.verb == "unchanged":
            return ""
        key = _key_of(one.ref)
        if one.verb == "pruned":
            self._states.pop(key, None)
            return self._line(str(key), "deleted", done.seconds[0])
        obj = development.current(one.ref.kind, one.ref.namespace, one.ref.name) or one.object
        state = self._learn(key, obj)
        words = f"{one.verb:<11}  {_words(key.kind, state)}" if state is not None else one.verb
        return self._line(str(key), words, done.seconds[1], _shade(state))

    def _outcome(self, outcome: Mapping[str, Any], development: "Development", *, silent: bool = False) -> list[str]:
        key = self._key(outcome)
        before = self._states.get(key)
        obj = development.current(outcome["kind"], outcome["namespace"], outcome["name"])
        state = self._learn(key, obj)
        if outcome["outcome"] not in _QUIET:
            message = outcome.get("message") or ""
            repeated, self._failures[key] = self._failures.get(key) == message, message
            what = f"reconcile {outcome['outcome']}: {message}"
            return [] if repeated else [self._line(str(key), what, outcome["duration"], _RED)]
        if outcome["outcome"] in ("success", "requeue"):
            self._failures.pop(key, None)
        if silent or state is None or (before is not None and before[:2] == state[:2]):
            return []
        return [self._state(key, state, outcome["duration"])]

    def _state(self, key: _Key, state: Readiness, seconds: float | None = None) -> str:
        return self._line(str(key), _words(key.kind, state), seconds, _shade(state))

    def _problems(self, done: "Round") -> list[str]:
        """Errors with the lines they are about: when they are new, and when somebody has just tried to mend them."""
        from kastra.manifest.problem import render

        lines: list[str] = []
        for problem in done.problems:
            if problem not in self._errors or problem.file in done.changed:
                text = render(problem, color=self._color)
                lines += text.split("\n") if self._terminal else [text.split("\n")[0]]
        self._errors = [problem for problem in done.problems if problem.severity == "error"]
        return lines

    def _line(self, name: str, what: str, seconds: float | None = None, shade: str = "") -> str:
        took = "" if seconds is None else _took(seconds)
        head = f"{self._now().strftime('%H:%M:%S')}  {one_line(name):<{_NAME}}  "
        body = one_line(what)
        if self._terminal:
            room = max(20, self._width() - len(head) - len(took) - 3)
            body = body if len(body) <= room else body[: room - 1] + "…"
        if not self._color:
            return f"{head}{body}  {took}".rstrip()
        shaded = f"{shade}{body}{_END}" if shade else body
        return f"{_DIM}{head[:8]}{_END}{head[8:]}{shaded}  {_DIM}{took}{_END}" if took else f"{head}{shaded}"

    def _names(self, done: "Round") -> str:
        if not self._begun:
            return "everything"
        return done.changed[0] if len(done.changed) == 1 else f"{len(done.changed)} files"

    # ---- the state of all

    def _summary(self) -> str:
        total = Counter(key.kind for key in self._states)
        ready = Counter(key.kind for key, state in self._states.items() if state.status == "True")
        parts = [f"{kind} {ready[kind]}/{total[kind]}" for kind in sorted(total) if kind not in _NOT_COUNTED]
        running = sum(key.kind == "Run" and state.status == "Unknown" for key, state in self._states.items())
        parts += [f"{running} Runs under way"] if running else []
        errors = len(self._errors)
        parts += [f"{errors} error{'s' if errors > 1 else ''}"] if errors else []
        return "  ".join(parts)

    def _print(self, lines: list[str]) -> None:
        if not self._terminal:
            if lines:
                self._write("".join(f"{line}\n" for line in lines))
            return
        # The line at the bottom must fit, or it couldn't be taken away again.
        bottom = f"{self._title}  {self._summary()}".rstrip()[: max(1, self._width() - 1)]
        shaded = f"{_DIM}{bottom}{_END}" if self._color else bottom
        above = "".join(f"{line}\n" for line in lines)
        self._write(f"{_CLEAR}{above}{shaded}")

    def _learn(self, key: _Key, obj: "Object | None") -> Readiness | None:
        state = readiness(obj) if obj is not None else None
        if state is None:
            self._states.pop(key, None)
        else:
            self._states[key] = state
        return state

    def _key(self, outcome: Mapping[str, Any]) -> _Key:
        return _Key(outcome["kind"].partition(".")[0], outcome["namespace"], outcome["name"])


def _key_of(ref: "ObjectRef") -> _Key:
    return _Key(ref.kind.partition(".")[0], ref.namespace, ref.name)


def _words(kind: str, state: Readiness) -> str:
    why = ": ".join(filter(None, (state.reason, state.message)))
    if kind == "Run":
        return "Succeeded" if state.status == "True" else why
    if state.status == "True":
        return "Ready"
    return f"not Ready  {why}" if state.status == "False" else f"not Ready yet  {why}"


def _shade(state: Readiness | None) -> str:
    return "" if state is None else _GREEN if state.status == "True" else _RED if state.status == "False" else ""


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"
