"""How is a Python function called as a tool? By name, with its signature as the schema where no other is given.

`package.module:function` is imported when the tool is first used, also from the project's folder; `inline` source is compiled
instead, and `plugin` names an entry point `kastra.tools` of an installed package. Async functions run on the event loop, others in a worker thread, so that they can't stall it; a thread can't be
stopped, so after a deadline its result is dropped. A parameter annotated with `ToolContext` gets the call's context and is
hidden from the schema. Results must be JSON, or what pydantic makes JSON of (models, dataclasses, dates).

`pydantic` is imported when the first function is read. Read next: `kastra.tool.declared`.
"""

import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio.to_thread

from kastra.api.names import closest
from kastra.plugins import PluginError, installed, load
from kastra.tool.interface import ToolContext, ToolError

PLUGINS = "kastra.tools"
"""The entry points that are looked at."""
MAX_RESULT = 4 * 1024 * 1024
"""Bytes of a result as JSON."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A function as a tool sees it.

    Args:
        schema: JSON Schema of its arguments.
        adapters: by parameter, what turns a JSON value into what the annotation says.
        context: name of the parameter that gets the ToolContext; empty if there is none.
        given: by parameter, the type of what it is given besides its arguments.
        open: whether it takes arguments that it doesn't name.
        description: the first paragraph of its docstring.
    """

    schema: Mapping[str, Any]
    adapters: Mapping[str, Any]
    context: str
    open: bool
    description: str
    given: Mapping[str, type] = field(default_factory=dict)


class PythonTool:
    """Calls one function.

    Args:
        function: the function.
        where: how it is named in messages.
        signature: the function's, where it is known already.
        given: by type, what parameters annotated with that type get; they are hidden from the schema.

    Raises:
        ValueError: its signature can't be called by name, or an annotation means nothing.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        where: str,
        signature: Signature | None = None,
        given: Mapping[type, Any] | None = None,
    ) -> None:
        self._function = function
        self._where = where
        self.signature = signature or signature_of(function, where, tuple(given or ()))
        self._given = {name: (given or {})[kind] for name, kind in self.signature.given.items()}

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """What the function returned, as JSON.

        Raises:
            ToolError: it raised, took arguments it can't use, or returned what isn't JSON.
        """
        keywords = {**self._keywords(arguments), **self._given}
        if self.signature.context:
            keywords[self.signature.context] = context
        try:
            if inspect.iscoroutinefunction(self._function):
                result = await self._function(**keywords)
            else:
                result = await anyio.to_thread.run_sync(lambda: self._function(**keywords), abandon_on_cancel=True)
                if inspect.isawaitable(result):
                    result = await result
        except ToolError:
            raise
        except Exception as error:
            raise ToolError(f"{self._where} raised {type(error).__name__}: {str(error)[:1000]}") from error
        return self._json(result)

    def _keywords(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        from pydantic import ValidationError

        keywords: dict[str, Any] = {}
        for name, value in arguments.items():
            adapter = self.signature.adapters.get(name)
            if adapter is None:
                if not self.signature.open:
                    raise ToolError(f"{self._where} takes no argument {name!r}", type="validation", retryable=False)
                keywords[name] = value
                continue
            try:
                keywords[name] = adapter.validate_python(value)
            except ValidationError as error:
                first = error.errors()[0]
                place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
                raise ToolError(f"{name}{place}: {first['msg']}", type="validation", retryable=False) from None
        missing = [name for name in self.signature.schema.get("required", ()) if name not in keywords]
        if missing:
            raise ToolError(f"{', '.join(missing)}: required", type="validation", retryable=False)
        return keywords

    def _json(self, result: Any) -> Any:
        from pydantic_core import PydanticSerializationError, from_json, to_json

        try:
            data = to_json(result, inf_nan_mode="null")
        except (PydanticSerializationError, ValueError):
            kind = type(result).__name__
            raise ToolError(f"{self._where} returned a {kind}, which is no JSON value", retryable=False) from None
        if len(data) > MAX_RESULT:
            raise ToolError(f"{self._where} returned more than {MAX_RESULT} bytes", retryable=False)
        return from_json(data)


def load_entrypoint(entrypoint: str, folder: Path | None) -> Callable[..., Any]:
    """The function that `package.module:function` names; modules beside the manifest are found in `folder`.

    Runs the module's code, so call it in a worker thread.

    Raises:
        ValueError: there is no such module or function, or importing it failed.
    """
    module_name, colon, path = entrypoint.partition(":")
    if not colon or not module_name or not path:
        raise ValueError(f"spec.python.entrypoint: {entrypoint!r} is not package.module:function")
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = f" (looked for in the server's environment{f' and {folder}' if folder else ''})"
        raise ValueError(f"spec.python.entrypoint: there is no module {missing!r}{where}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"spec.python.entrypoint: importing {module_name} failed: {reason[:500]}") from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"spec.python.entrypoint: module {module_name} has no function {path!r}")
    function: Callable[..., Any] = found
    return function


def load_plugin(name: str) -> Callable[..., Any]:
    """The function that the installed package's entry point `name` offers as a tool.

    Runs the module's code, so call it in a worker thread.

    Raises:
        ValueError: no package offers it, or it doesn't load.
    """
    offered = {plugin.name: plugin for plugin in installed(PLUGINS)}
    if name not in offered:
        near = closest(name, offered)
        known = f"did you mean {near!r}?" if near else f"installed packages offer {', '.join(offered) or 'none'}"
        raise ValueError(f"spec.python.plugin: no installed package offers a tool {name!r}; {known}")
    try:
        function: Callable[..., Any] = load(offered[name], plugin_problem)
    except PluginError as error:
        raise ValueError(f"spec.python.plugin: {error}") from None
    return function


def plugin_problem(function: Any) -> str:
    """What keeps an object from being a tool; an empty text if nothing does."""
    if not callable(function):
        return "is no function"
    try:
        signature_of(function, "its signature")
    except ValueError as error:
        return str(error)
    return ""


def compile_inline(source: str, name: str) -> Callable[..., Any]:
    """The one function that `source` defines; names that begin with an underscore are its own affair.

    Runs the source's top level, so call it in a worker thread.

    Raises:
        ValueError: it doesn't compile or run, or defines no function or several.
    """
    module = ModuleType(f"kastra_inline_{name}")
    try:
        exec(compile(source, f"<tool {name}>", "exec"), module.__dict__)  # noqa: S102 - a manifest's tool is code by intent
    except Exception as error:
        raise ValueError(f"spec.python.inline: {type(error).__name__}: {str(error)[:500]}") from error
    functions = [
        value
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    if len(functions) != 1:
        raise ValueError(f"spec.python.inline: must define exactly one function, not {len(functions)}")
    function: Callable[..., Any] = functions[0]
    return function


def signature_of(function: Callable[..., Any], where: str, given: Sequence[type] = ()) -> Signature:
    """A function's arguments as JSON Schema. A text in `Annotated` describes an argument.

    Args:
        function: read, not called.
        where: how it is named in messages.
        given: types of parameters that are no arguments.

    Raises:
        ValueError: a parameter can't be given by name, or its annotation has no JSON Schema.
    """
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        parameters = inspect.signature(function).parameters
        hints = typing.get_type_hints(function, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ValueError(f"{where}: its signature can't be read: {error}") from None
    adapters: dict[str, TypeAdapter[Any]] = {}
    required: list[str] = []
    defaults: dict[str, Any] = {}
    context, takes_more, hidden = "", False, dict[str, type]()
    for name, parameter in parameters.items():
        annotation = hints.get(name, Any)
        if annotation is ToolContext:
            context = name
        elif annotation in given:
            hidden[name] = annotation
        elif parameter.kind is parameter.VAR_KEYWORD:
            takes_more = True
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise ValueError(f"{where}: the parameter {name} can't be given by name")
        else:
            try:
                adapters[name] = TypeAdapter(annotation)
            except (PydanticSchemaGenerationError, PydanticUserError):
                raise ValueError(f"{where}: the annotation of {name} has no JSON form") from None
            if parameter.default is parameter.empty:
                required.append(name)
            elif parameter.default is None or isinstance(parameter.default, (bool, int, float, str)):
                defaults[name] = parameter.default
    try:
        schemas, shared = TypeAdapter.json_schemas(
            [(name, "validation", adapter) for name, adapter in adapters.items()]
        )
    except PydanticUserError:
        raise ValueError(f"{where}: an annotation has no JSON Schema") from None
    properties = {name: dict(schemas[name, "validation"]) for name in adapters}
    for name in adapters:
        if text := _described(hints.get(name)):
            properties[name].setdefault("description", text)
    for name, default in defaults.items():
        properties[name]["default"] = default
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": takes_more}
    if required:
        schema["required"] = required
    if "$defs" in shared:
        schema["$defs"] = shared["$defs"]
    description = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    return Signature(schema, adapters, context, takes_more, description, hidden)


def _described(annotation: Any) -> str:
    return next((note for note in getattr(annotation, "__metadata__", ()) if isinstance(note, str)), "")
