"""Keys leave the configuration: they become Secrets that hold a placeholder, and references to them.

Every key that is found is remembered, so that it can be blanked wherever it would be shown. A value that only names a
variable of the environment (`${env.OPENAI_API_KEY}`) becomes a reference to that variable. Read next:
`kastra.migrate.models`, its first user.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .node import Node

if TYPE_CHECKING:
    from .context import Context, Draft

PLACEHOLDER = "REPLACE-ME"
BLANK = "[removed]"
_KEY_NAME = re.compile(
    r"(api|access|private|secret|signing|encryption|auth)[-_]?key(s|id)?$|(^|[-_a-z])(token|secret|password|passwd|passphrase|credentials?)$"
    r"|^(authorization|proxy-authorization|cookie|x-api-key|x-auth-token|dsn|connectionstring|connection_string)$",
    re.IGNORECASE,
)
KEY_SHAPE = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[0-9A-Za-z_-]{30,}|\bBearer\s+(?!\$)[A-Za-z0-9._~+/-]{16,}=*|\bgsk_[A-Za-z0-9]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"
)
"""What the keys of the usual services look like, wherever they stand."""
_VARIABLE = re.compile(
    r"\s*(?:\$\{\{?|\{\{)?\s*\$?(?:process\.)?(?:env\.)?([A-Za-z_][A-Za-z0-9_]*)\s*(?:\}\}|\})\s*|\s*\$([A-Z_][A-Z0-9_]*)\s*"
)
_SHORTEST = 8
"""Characters from which on a key is blanked wherever it stands; shorter ones are words such as `ollama` as often as not."""


def is_key_name(name: str) -> bool:
    """Whether a field of this name holds a key."""
    return _KEY_NAME.search(name) is not None


def variable(value: Any) -> str:
    """The variable of the environment that a text consists of; empty if it doesn't."""
    match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    return (match[1] or match[2] or "") if match else ""


@dataclass(slots=True)
class Secrets:
    """The keys of the input.

    Args:
        write: whether Secrets hold the keys themselves instead of a placeholder.
    """

    write: bool = False
    known: set[str] = field(default_factory=set)
    _kept: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def learn(self, value: Any) -> None:
        """Remember every key in JSON-like data, by the names of its fields and by its shape."""
        stack: list[tuple[str, Any]] = [("", value)]
        while stack:
            name, item = stack.pop()
            if isinstance(item, dict):
                stack += [(str(key), inner) for key, inner in item.items()]
            elif isinstance(item, list):
                stack += [(name, inner) for inner in item]
            elif isinstance(item, str) and len(item) >= _SHORTEST:
                self.known.update(KEY_SHAPE.findall(item))
                if name and is_key_name(name) and not variable(item) and "{{" not in item:
                    self.known.add(item)

    def scrub(self, text: str) -> str:
        """`text` without the keys of the input and without what looks like one."""
        for key in sorted(self.known, key=lambda key: (-len(key), key)):
            if key in text:
                text = text.replace(key, BLANK)
        return KEY_SHAPE.sub(BLANK, text)

    def source(
        self, ctx: "Context", node: Node, owner: str, namespace: str, key: str = "api-key"
    ) -> dict[str, Any] | None:
        """Where the value at `node` will come from, as a `valueFrom`; a literal becomes a Secret named `owner`.

        None if the value is nothing that can be referred to.
        """
        value = node.value
        if isinstance(value, dict):
            inner = value.get("valueFrom", value)
            if isinstance(inner, dict):
                kept = {
                    name: inner[name] for name in ("secretKeyRef", "configMapKeyRef", "env", "file") if name in inner
                }
                if len(kept) == 1:
                    return kept
            named = value.get("secret") or value.get("secretName")
            if isinstance(named, str):
                return {"secretKeyRef": {"name": named, "key": str(value.get("key") or key)}}
            if "value" in value:
                return self.source(ctx, node.child("value"), owner, namespace, key)
            return None
        if name := variable(value):
            return {"env": name}
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
            return None
        text = str(value)
        if len(text) >= _SHORTEST:
            self.known.add(text)
        return {"secretKeyRef": {"name": self._keep(ctx, node, owner, namespace, key, text), "key": key}}

    def _keep(self, ctx: "Context", node: Node, owner: str, namespace: str, key: str, text: str) -> str:
        name, number = owner, 2
        while self._kept.get((namespace, name, key), text) != text:
            name, number = f"{owner}-{number}", number + 1
        self._kept[namespace, name, key] = text
        draft = ctx.drafts.get(("Secret", namespace, name))
        if draft is None:
            draft = ctx.draft("Secret", name, namespace, node)
            if draft is None:
                return name
            draft.api_version, draft.secret = "v1", True
            draft.body = {"stringData": {}}
        draft.body["stringData"][key] = text if self.write else PLACEHOLDER
        if not self.write:
            ctx.note(
                "note",
                draft.about,
                node,
                f'the key is left out; the Secret holds a placeholder under "{key}"',
                "put the key in",
            )
        return draft.name

    def sweep(self, ctx: "Context", draft: "Draft") -> None:
        """Blank every key that is still in an object, where no reference could take its place."""
        if not draft.secret:
            draft.body = self._swept(ctx, draft, draft.body, ())
            draft.labels = {key: self.scrub(value) for key, value in draft.labels.items()}
            draft.annotations = {key: self.scrub(value) for key, value in draft.annotations.items()}

    def _swept(self, ctx: "Context", draft: "Draft", value: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self._swept(ctx, draft, item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._swept(ctx, draft, item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        clean = self.scrub(value)
        if clean != value:
            node = next(
                (draft.places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in draft.places), draft.node
            )
            ctx.stub(draft, node, "a key stood in it and was taken out", "refer to a Secret instead")
        return clean
