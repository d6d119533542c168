"""Structural schemas: checked, compiled to closures, applied to objects in one pass. Pure: no input or output.

    kind = compile_schema(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    admitted = kind.admit(obj)            # prunes and defaults obj in place
    admitted.causes, admitted.pruned      # why it is refused; which fields nobody knows

Read in this order: `compiled` (the front), `structural`, `walker`, `values`, `rules`.
"""

from .compiled import Admitted, CompiledSchema, SchemaError, compile_schema
from .structural import Structural, parse_structural, schema_topology

__all__ = [
    "Admitted",
    "CompiledSchema",
    "SchemaError",
    "Structural",
    "compile_schema",
    "parse_structural",
    "schema_topology",
]
