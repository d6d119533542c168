"""Group `yaml`: YAML as Kastra's manifests are read, with budgets against bombs, and without tags that make objects.

Read next: `kastra.manifest.decode`.
"""

from typing import Annotated, Any

from kastra.manifest.decode import DecodeError, decode
from kastra.manifest.encode import to_yaml
from kastra.tool.toolkit.bounds import bounded, clip, text_of
from kastra.tool.toolkit.builtin import Builtin, unfit


def parse(text: str, all_documents: Annotated[bool, "Return a list of all documents."] = False) -> Any:
    """Read a YAML text as a value; says where it is wrong."""
    text_of(text)
    try:
        documents = [document.value for document in decode(text.encode("utf-8", "surrogatepass"))]
    except DecodeError as error:
        raise unfit(f"text: line {error.line}, column {error.column}: {error.message}") from None
    if all_documents:
        return documents
    if len(documents) > 1:
        raise unfit(f"text: has {len(documents)} documents; set all_documents to get them all")
    return documents[0] if documents else None


def format_value(value: Annotated[Any, "A JSON value."]) -> str:
    """Write a value as YAML text."""
    return clip(to_yaml(bounded(value)))


TOOLS = (Builtin("yaml.parse", parse), Builtin("yaml.format", format_value))
