"""Which stored entries does a request select? Label and field selectors as one test on entries.

Labels and names are told without parsing; only a selector on another field (`spec.nodeName`, a CRD's selectableFields)
looks into the body. Read next: `kastra.api.selectors`, the grammar.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from kastra.api.selectors import field_text, parse_field_selector, parse_label_selector
from kastra.store.interface import Entry

from .served import Served


@dataclass(frozen=True, slots=True)
class Selection:
    """A parsed request to narrow a list or watch.

    Args:
        matches: the test; None when everything is selected.
        name: the only name that can match, when the field selector says so.
        inside: whether the test looks into bodies, so that entries must have been prepared for it.
    """

    matches: Callable[[Entry], bool] | None = None
    name: str | None = None
    inside: bool = False

    @classmethod
    def parse(cls, served: Served, label_selector: str, field_selector: str) -> Self:
        """The selection of two selector texts.

        Raises:
            BadRequest: one can't be read, or selects by a field that this kind doesn't offer.
        """
        if not label_selector and not field_selector:
            return cls()
        labels = parse_label_selector(label_selector)
        fields = parse_field_selector(field_selector)
        fields.check(served.resource.selectable_fields)
        if fields.everything:
            return cls() if labels.everything else cls(lambda entry: labels.matches(entry.labels))
        event = served.resource.builtin and served.resource.kind == "Event"
        paths = {requirement.field for requirement in fields.requirements} - {"metadata.name", "metadata.namespace"}

        def matches(entry: Entry) -> bool:
            if not labels.matches(entry.labels):
                return False
            body: Mapping[str, Any] = served.fields(entry) if paths else {}
            return fields.matches(
                lambda path: _event_source(body) if path == "source" and event else _field(entry, body, path)
            )

        return cls(matches, fields.required("metadata.name"), bool(paths))


def _field(entry: Entry, body: Mapping[str, Any], path: str) -> str:
    if path == "metadata.name":
        return entry.key.name
    if path == "metadata.namespace":
        return entry.key.namespace
    value: Any = body
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return ""
        value = value.get(part)
    return field_text(value)


def _event_source(event: Mapping[str, Any]) -> str:
    """What the `source` of an Event selects by: who reported it, in either API."""
    return field_text((event.get("source") or {}).get("component") or event.get("reportingComponent"))
