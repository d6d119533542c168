"""Objects as YAML that people read and kubectl reads back unchanged.

Keys keep their order, multi-line text stands as a block, and text that YAML 1.1 would read as something else (`yes`, `0755`,
`1e3`) is quoted. Read next: `kastra.manifest.decode`, the other direction.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from .scalars import needs_quotes


class _Dumper(yaml.CSafeDumper):
    """libyaml's emitter with our choice of scalar styles, and without anchors for repeated values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text:
        style = "|"
    elif needs_quotes(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(value: Mapping[str, Any] | list[Any]) -> str:
    """One document, ending in a newline."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120
    )
    return text


def to_yaml_documents(values: Iterable[Mapping[str, Any]]) -> str:
    """Several documents, separated by `---`."""
    return "---\n".join(to_yaml(value) for value in values)
