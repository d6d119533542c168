"""How is a setting of a processor read? Each reader gives a value of the right shape, or says what is wrong and where.

Read next: `kastra.agent.processors.catalogue`, whose ids are declared with them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class Wrong(ValueError):
    """What is wrong with a setting.

    Args:
        path: of the setting below `config`, such as `.rules[0]`; empty for all of it.
        what: for people.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what


@contextmanager
def below(path: str) -> Iterator[None]:
    """What is wrong with a setting that is read within is said to be below `path`, such as `.limits`."""
    try:
        yield
    except Wrong as error:
        raise Wrong(f"{path}{error.path}", error.what) from None


def whole(config: Mapping[str, Any], name: str, usual: int | None = None, *, least: int = 1) -> int:
    """A whole number of at least `least`. Raises Wrong."""
    value = config.get(name, usual)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise Wrong(f".{name}", f"must be a whole number of {least} or more")
    return value


def share(config: Mapping[str, Any], name: str, usual: float | None = None) -> float | None:
    """A number from 0 to 1, such as a probability. Raises Wrong."""
    value = config.get(name, usual)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise Wrong(f".{name}", "must be a number from 0 to 1")
    return float(value)


def amount(value: Any, path: str) -> float:
    """A finite number above 0. Raises Wrong."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise Wrong(path, "must be a number above 0")
    return float(value)


def flag(config: Mapping[str, Any], name: str, usual: bool = False) -> bool:
    """True or false. Raises Wrong."""
    value = config.get(name, usual)
    if not isinstance(value, bool):
        raise Wrong(f".{name}", "must be true or false")
    return value


def text(config: Mapping[str, Any], name: str, usual: str = "") -> str:
    """A text. Raises Wrong."""
    value = config.get(name, usual)
    if not isinstance(value, str):
        raise Wrong(f".{name}", "must be a text")
    return value


def one_of(config: Mapping[str, Any], name: str, choices: Sequence[str], usual: str) -> str:
    """One of `choices`. Raises Wrong."""
    value = config.get(name, usual)
    if value not in choices:
        raise Wrong(f".{name}", f"must be one of {', '.join(choices)}")
    return str(value)


def texts(config: Mapping[str, Any], name: str, usual: Sequence[str]) -> list[str]:
    """A list of at least one text. Raises Wrong."""
    value = config.get(name)
    if value is None:
        return list(usual)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise Wrong(f".{name}", "must be a list of texts")
    return list(value)


def only(value: Mapping[str, Any], known: Sequence[str], path: str) -> None:
    """Nothing but the fields in `known`. Raises Wrong."""
    for name in value:
        if name not in known:
            raise Wrong(f"{path}.{name}", f"there is no such setting; there are: {', '.join(known)}")


def model_choice(config: Mapping[str, Any], name: str = "model", path: str = "") -> Mapping[str, Any] | None:
    """A model as `{provider, name, parameters}`, however it is written; None if none is. Raises Wrong."""
    model = config.get(name)
    if model is None:
        return None
    if isinstance(model, str):
        provider, _, named = model.partition("/")
        model = {"provider": provider, "name": named}
    if not isinstance(model, Mapping) or not model.get("provider") or not isinstance(model["provider"], str):
        raise Wrong(f"{path}.{name}", "must be provider/name, or {provider, name, parameters}")
    return dict(model)


def needed_model(config: Mapping[str, Any], why: str) -> Mapping[str, Any]:
    """As `model_choice`, where there must be one. Raises Wrong."""
    model = model_choice(config)
    if model is None:
        raise Wrong(".model", f"is required: {why}")
    return model
