"""`-o FORMAT`: objects as YAML, JSON, names, JSONPath or columns of one's own. Tables are `kastra.cli.tables`.

managedFields are left out unless asked for. Keys come in the order in which people read manifests; the content of specs
stays in the order in which it was written. Nothing here prints: verbs do.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from kastra.api.object import Object

TABLES = ("", "wide")
FORMATS = ("custom-columns", "custom-columns-file", "json", "jsonpath", "jsonpath-file", "name", "wide", "yaml")
_WITH_ARGUMENT = ("custom-columns", "custom-columns-file", "jsonpath", "jsonpath-file")
_FIRST_KEYS = ("apiVersion", "kind", "metadata")
_INDENTATION = re.compile(rb"^ +", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What `-o` said: `name` is empty for a table, `argument` what follows the `=`."""

    name: str
    argument: str = ""

    @property
    def is_table(self) -> bool:
        """Whether rows are printed."""
        return self.name in TABLES or self.name.startswith("custom-columns")


def parse_format(text: str, allowed: Sequence[str] = FORMATS) -> OutputFormat:
    """The format that `-o` names.

    Raises:
        ValueError: there is no such format, or its argument is missing or superfluous.
    """
    name, equals, argument = text.partition("=")
    if name not in allowed and name:
        raise ValueError(
            f'unable to match a printer suitable for the output format "{text}", allowed formats are: {",".join(allowed)}'
        )
    if name in _WITH_ARGUMENT and not argument:
        what = "a file" if name.endswith("-file") else "a template"
        raise ValueError(f"-o {name} needs {what}: -o {name}=...")
    if equals and name not in _WITH_ARGUMENT:
        raise ValueError(f"-o {name} takes no argument")
    if name == "custom-columns-file":
        lines = Path(argument).read_text(encoding="utf-8").splitlines()
        if len(lines) < 2:
            raise ValueError(f"{argument}: expected a line of headers and a line of paths")
        pairs = zip(lines[0].split(), lines[1].split(), strict=False)
        return OutputFormat("custom-columns", ",".join(f"{header}:{path}" for header, path in pairs))
    if name == "jsonpath-file":
        return OutputFormat("jsonpath", Path(argument).read_text(encoding="utf-8").rstrip("\n"))
    return OutputFormat(name, argument)


def presented(data: Mapping[str, Any], *, managed_fields: bool = False) -> dict[str, Any]:
    """An object in the order people read it: apiVersion, kind, metadata (sorted), the rest as stored."""
    metadata = data.get("metadata") or {}
    shown: dict[str, Any] = {key: data[key] for key in _FIRST_KEYS if key in data}
    if metadata:
        shown["metadata"] = {key: metadata[key] for key in sorted(metadata) if managed_fields or key != "managedFields"}
    shown.update((key, value) for key, value in data.items() if key not in shown)
    return shown


def as_list(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several objects as one `List`, as kubectl prints them."""
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": list(objects)}


def document_writer(form: OutputFormat, *, managed_fields: bool = False) -> "Callable[[Sequence[Object], bool], str]":
    """A function from objects to the text of a format that isn't a table.

    The second argument of the function says whether one object was asked for, which is then printed without a List.

    Raises:
        ValueError: the template is broken.
    """
    if form.name == "name":
        return lambda objects, _: "".join(f"{_name_of(obj)}\n" for obj in objects)
    write = _writer_of(form)

    def render(objects: "Sequence[Object]", single: bool) -> str:
        shown = [presented(obj.data, managed_fields=managed_fields) for obj in objects]
        return write(shown[0] if single and len(shown) == 1 else as_list(shown))

    return render


def write_value(form: OutputFormat, value: Any) -> str:
    """Any JSON-like value as `json` or `yaml`."""
    return to_json(value) if form.name == "json" else _writer_of(form)(value)


def _writer_of(form: OutputFormat) -> Callable[[Any], str]:
    if form.name == "json":
        return _objects_json
    if form.name == "yaml":
        from kastra.manifest.encode import to_yaml

        return to_yaml
    from kastra.api.jsonpath_template import Template, relaxed

    return Template(relaxed(form.argument)).render


def to_json(value: Any) -> str:
    """Indented JSON, ending in a newline."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _objects_json(value: Any) -> str:
    """As kubectl prints objects: indented by four."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    # orjson knows two spaces only. No text in JSON holds a line break, so what begins a line is indentation.
    return _INDENTATION.sub(lambda found: found[0] * 2, text).decode()


def _name_of(obj: "Object") -> str:
    group = obj.api_version.rpartition("/")[0]
    return f"{obj.kind.lower()}{'.' if group else ''}{group}/{obj.name}"


def sort_objects(objects: "Sequence[Object]", path: str) -> "list[Object]":
    """The objects by the value at a JSONPath; those without one first, numbers before text.

    Raises:
        ValueError: the path is broken.
    """
    from kastra.api.jsonpath import compile_path
    from kastra.api.jsonpath_template import to_text

    find = compile_path(path)

    def key(obj: "Object") -> tuple[int, float, str]:
        value = find(obj.data)
        if value is None:
            return (0, 0.0, "")
        if isinstance(value, int | float):
            return (1, float(value), "")
        return (2, 0.0, to_text(value))

    return sorted(objects, key=key)
