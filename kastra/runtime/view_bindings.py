"""What an agent's tools and instructions are written as, read.

Read next: `controllers/agent.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, StrictStr, model_validator

from kastra.api.types import Reference

from .view_builtin import BuiltinUse
from .view_errors import forbidden, invalid, shape_error, unsupported
from .view_types import Closed, Ref, short_name, split_plural

_BINDING_KINDS = {"Tool": "toolRef", "Agent": "agentRef", "Workflow": "workflowRef"}


class McpBinding(Closed):
    """Tools of an MCP server; all of them unless `tools` names some."""

    server: Ref
    tools: list[StrictStr] | None = None


class ToolBinding(Closed):
    """One tool of an agent: which, under what name, with which arguments fixed.

    Written as a name, as `{name, refName}`, or with exactly one of `toolRef`, `agentRef`, `workflowRef`, `mcp` and `builtin`;
    only a `name` means the Tool of that name.
    """

    name: StrictStr = Field(min_length=1)
    as_: StrictStr | None = Field(default=None, alias="as", min_length=1)
    preset: dict[str, Any] = Field(default_factory=dict)
    require_approval: StrictBool | None = None
    tool_ref: Ref | None = None
    agent_ref: Ref | None = None
    workflow_ref: Ref | None = None
    mcp: McpBinding | None = None
    builtin: BuiltinUse | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_short_shapes(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"refName": data}
        if not isinstance(data, Mapping):
            return data
        shaped = dict(data)
        bodies = [key for key in ("refName", "toolRef", "agentRef", "workflowRef", "mcp", "builtin") if key in shaped]
        if len(bodies) > 1:
            raise shape_error(forbidden(f"{bodies[0]} is already given", bodies[1]))
        if not bodies and isinstance(shaped.get("name"), str):
            shaped["refName"] = shaped["name"]
        if "refName" in shaped:
            text = shaped.pop("refName")
            if not isinstance(text, str):
                raise shape_error(invalid(text, "must be a name", "refName"))
            kind, name = split_plural(text, "Tool")
            if kind not in _BINDING_KINDS:
                raise shape_error(invalid(text, "a tool can be a Tool, an Agent or a Workflow", ""))
            shaped[_BINDING_KINDS[kind]] = {"name": name}
            shaped.setdefault("name", short_name(name))
            return shaped
        if "name" not in shaped and bodies:
            body = shaped[bodies[0]]
            target = body.get("server") if bodies[0] == "mcp" and isinstance(body, Mapping) else body
            text = target.get("name") if isinstance(target, Mapping) else target
            if isinstance(text, str):
                # Models know no dots in the names of tools.
                shaped["name"] = text.replace(".", "_") if bodies[0] == "builtin" else short_name(text)
        return shaped

    def reference(self, path: str) -> Reference:
        """What this binding leads to, for a binding that stands at `path`."""
        if self.mcp is not None:
            return self.mcp.server.to("MCPServer", path)
        for kind, ref in (("Tool", self.tool_ref), ("Agent", self.agent_ref), ("Workflow", self.workflow_ref)):
            if ref is not None:
                return ref.to(kind, path)
        raise AssertionError("a binding without a target is never built")


def _bindings(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    listed: list[Any] = []
    for alias, target in value.items():
        if isinstance(target, str):
            target = {"refName": target}
        if not isinstance(target, Mapping):
            raise shape_error(invalid(target, "must be a name or an object", str(alias)))
        listed.append({**target, "name": alias})
    return listed


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    parts = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for part in parts:
        content = part
        if isinstance(part, Mapping):
            if part.get("role", "system") != "system":
                raise shape_error(unsupported(part["role"], ("system",), "role"))
            content = part.get("content", part.get("text"))
        if isinstance(content, list) and part is not value:
            content = "".join(_texts(content))
        elif isinstance(content, list):
            texts += _texts(content)
            continue
        if not isinstance(content, str):
            raise ValueError("must be a text, a list of texts, or a system message {role: system, content}")
        texts.append(content)
    return texts


Bindings = Annotated[list[ToolBinding], BeforeValidator(_bindings)]
"""An agent's tools: a list, or a map from alias to target."""
Instructions = Annotated[list[str], BeforeValidator(_texts)]
"""A prompt: a text, a list of texts, or a system message."""
