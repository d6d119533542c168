"""May somebody do something, asked from within an expression: the functions of the variable `authorizer`.

    authorizer.group("mastra.ai").resource("runs").namespace("prod").check("create").allowed()

The CEL library knows no types of ours, so a question is a text that grows with each call, and an answer is one too. Who
answers is told around evaluating, with `answering`; without that, a check is an error. Only environments with a variable of
this name have these functions.

Source: Kubernetes' apiserver cel/library/authz.go. Read next: `kastra.cel.environment`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import orjson

from .functions import Function

AUTHORIZER = "authorizer {}"
"""The value of the variable: a question to which nothing has been added."""

Decide = Callable[[Mapping[str, str]], tuple[bool, str]]
"""From a question (`verb`, and any of `path`, `group`, `resource`, `subresource`, `namespace`, `name`, `serviceAccount`) to
whether it is allowed, and why."""

_decide: ContextVar[Decide | None] = ContextVar("authorizer", default=None)


@contextmanager
def answering(decide: Decide) -> Iterator[None]:
    """Let `decide` answer what expressions ask meanwhile."""
    token = _decide.set(decide)
    try:
        yield
    finally:
        _decide.reset(token)


def _question(text: str) -> dict[str, str]:
    return _read(text, "authorizer ")


def _read(text: str, prefix: str) -> dict[str, Any]:
    if not text.startswith(prefix):
        raise ValueError("no such overload: this is not of the authorizer")
    found = orjson.loads(text.removeprefix(prefix))
    if not isinstance(found, dict):
        raise ValueError("no such overload: this is not of the authorizer")
    return found


def _with(field: str) -> Callable[[str, str], str]:
    def extended(text: str, value: str) -> str:
        return "authorizer " + orjson.dumps({**_question(text), field: value}).decode()

    return extended


def _service_account(text: str, namespace: str, name: str) -> str:
    return _with("serviceAccount")(text, f"{namespace}/{name}")


def _check(text: str, verb: str) -> str:
    decide = _decide.get()
    if decide is None:
        raise ValueError("nobody decides about access here")
    allowed, reason = decide({**_question(text), "verb": verb})
    return "decision " + orjson.dumps({"allowed": allowed, "reason": reason}).decode()


def _allowed(text: str) -> bool:
    return bool(_read(text, "decision ")["allowed"])


def _reason(text: str) -> str:
    return str(_read(text, "decision ")["reason"])


FUNCTIONS: tuple[Function, ...] = (
    *(
        Function(name, ("string", "string"), "string", _with(name))
        for name in ("path", "group", "resource", "subresource", "namespace", "name")
    ),
    Function("serviceAccount", ("string", "string", "string"), "string", _service_account),
    Function("check", ("string", "string"), "string", _check),
    Function("allowed", ("string",), "bool", _allowed),
    Function("reason", ("string",), "string", _reason),
)
