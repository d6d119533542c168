"""How is an HTTP endpoint called as a tool? URL, headers and body are templates over `input`, the tool's arguments.

What an expression puts into the URL is percent-encoded, and must not be `.` or `..` within its path, so that an argument can't
become a host, another path or a parameter of its own; only a URL that is one expression as a whole is taken as it is. Every call
carries `Idempotency-Key`. Answers of 2xx are results: JSON as a value, anything else as text, or what `output` makes of them. The
call itself, and what it may reach, is `kastra.netguard`'s.

Source: the Idempotency-Key header draft of the IETF httpapi group. Read next: `kastra.tool.http_auth`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import orjson

from kastra.cel import CelError, Template, environment
from kastra.cel.references import tokens
from kastra.netguard import DEFAULT_LIMITS, Answer, BadAnswer, ConnectionFailed, Guard, Limits, Refused, TimedOut
from kastra.tool.http_auth import HttpAuth
from kastra.tool.interface import SecretReader, ToolContext, ToolError, ToolServices

MAX_COMPLAINT = 500
"""Characters shown of the body of a refusal."""


class HttpTool:
    """Calls one endpoint.

    Args:
        spec: `{url, method?, headers, body?, auth?, output?, maxBytes?, allowPrivate?}` as the view gives it.
        services: the guard and the secrets.

    Raises:
        ValueError: a template in it doesn't compile; the message begins with its path.
    """

    def __init__(self, spec: Mapping[str, Any], services: ToolServices) -> None:
        env = environment("input")
        self._guard: Guard = services.guard
        self._secrets: SecretReader = services.secrets
        self._allow_private = bool(spec.get("allowPrivate"))
        auth: Mapping[str, Any] | None = spec.get("auth")
        self._auth = HttpAuth(auth, services, allow_private=self._allow_private) if auth else None
        self._limits = Limits(max_bytes=spec["maxBytes"]) if spec.get("maxBytes") else DEFAULT_LIMITS
        self._method: str = spec.get("method") or ("POST" if spec.get("body") is not None else "GET")
        try:
            self._url = _UrlTemplate(spec["url"])
            self._headers = [
                (
                    header["name"],
                    Template.compile(header.get("value"), env, f"spec.http.headers[{index}].value"),
                    header.get("valueFrom"),
                )
                for index, header in enumerate(spec.get("headers") or ())
            ]
            self._body = None if spec.get("body") is None else Template.compile(spec["body"], env, "spec.http.body")
            self._output = (
                None
                if spec.get("output") is None
                else Template.compile(spec["output"], environment("input", "response"), "spec.http.output")
            )
        except CelError as error:
            raise ValueError(str(error)) from None

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """The answer's body, as a JSON value or text, or what `output` makes of it.

        Raises:
            ToolError: the endpoint refused, was not reached, or may not be.
        """
        secrets: list[str] = []
        try:
            url, headers, content = await self._request({"input": arguments}, context, secrets)
        except CelError as error:
            raise ToolError(str(error), type="expression", retryable=False) from None
        except LookupError as error:
            raise ToolError(str(error.args[0]) if error.args else "a secret is missing", type="authorization") from None
        try:
            answer = await self._guard.request(
                self._method,
                url,
                headers=headers,
                content=content,
                allow_private=self._allow_private,
                limits=self._limits,
            )
        except Refused as error:
            raise ToolError(str(error), type="authorization", retryable=False) from None
        except TimedOut as error:
            raise ToolError(str(error), type="timeout") from None
        except ConnectionFailed as error:
            raise ToolError(str(error)) from None
        except BadAnswer as error:
            raise ToolError(str(error), retryable=False) from None
        if not 200 <= answer.status < 300:
            refused = _refusal(answer, secrets)
            if answer.status == 401 and self._auth is not None:
                refused.retryable = self._auth.forget()
            raise refused
        if self._output is None:
            return _value(answer)
        response = {"status": answer.status, "headers": dict(answer.headers), "body": _value(answer)}
        try:
            return self._output.evaluate({"input": arguments, "response": response})
        except CelError as error:
            raise ToolError(str(error), type="output", retryable=False) from None

    async def _request(
        self, bindings: Mapping[str, Any], context: ToolContext, secrets: list[str]
    ) -> tuple[str, dict[str, str], bytes]:
        url = self._url.evaluate(bindings)
        headers = {
            "Idempotency-Key": context.idempotency_key,
            "Accept": "application/json, text/plain;q=0.9, */*;q=0.5",
        }
        content = b""
        if self._body is not None:
            body = self._body.evaluate(bindings)
            content = body.encode() if isinstance(body, str) else orjson.dumps(body)
            headers["Content-Type"] = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
        for name, template, source in self._headers:
            if source is not None:
                value = await self._secrets(source)
                secrets.append(value)
            else:
                value = _text(template.evaluate(bindings))
            headers = {known: v for known, v in headers.items() if known.lower() != name.lower()}
            headers[name] = value
        if self._auth is not None:
            url = await self._auth.apply(url, headers, secrets)
        return url, headers, content


class _UrlTemplate:
    """A URL with expressions, each of which is percent-encoded on its own."""

    def __init__(self, text: str) -> None:
        env = environment("input")
        self._parts: list[str | Template] = []
        start = 0
        while (opening := text.find("${{", start)) >= 0:
            closing = _closing(text, opening + 3)
            if closing < 0:
                raise CelError("${{ is not closed by }}", text, "compile", path="spec.http.url")
            self._parts += [text[start:opening], Template.compile(text[opening : closing + 2], env, "spec.http.url")]
            start = closing + 2
        self._parts.append(text[start:])
        self._parts = [part for part in self._parts if part != ""]

    def evaluate(self, bindings: Mapping[str, Any]) -> str:
        """The URL for these arguments."""
        if len(self._parts) == 1 and isinstance(self._parts[0], Template):
            return _text(self._parts[0].evaluate(bindings))
        made = "".join(
            part if isinstance(part, str) else quote(_text(part.evaluate(bindings)), safe="") for part in self._parts
        )
        if any(unquote(segment) in (".", "..") for segment in urlsplit(made).path.split("/")):
            # Whoever reads such a path leaves the folder that the manifest names.
            raise ToolError("an argument would make '.' or '..' a part of the path", type="validation", retryable=False)
        return made


def _closing(text: str, start: int) -> int:
    """Where the `}}` is that ends the expression from `start` on; -1 if it doesn't end."""
    depth = 0
    for token in tokens(text[start:]):
        if token.text == "{":
            depth += 1
        elif token.text == "}" and depth:
            depth -= 1
        elif token.text == "}":
            offset = start + token.start
            return offset if text[offset : offset + 2] == "}}" else -1
    return -1


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _refusal(answer: Answer, secrets: list[str]) -> ToolError:
    said = " ".join(answer.text()[:MAX_COMPLAINT].split())
    for secret in secrets:
        # An endpoint may quote what it was sent.
        said = said.replace(secret, "***") if secret else said
    text = f"HTTP {answer.status}{f': {said}' if said else ''}"
    details = {"status": answer.status}
    if answer.status in (401, 403):
        return ToolError(text, type="authorization", retryable=False, details=details)
    retry_after = answer.headers.get("retry-after", "")
    wait = min(float(retry_after), 3600.0) if retry_after.isdigit() else None
    if answer.status == 429:
        return ToolError(text, type="rate_limit", retry_after=wait, details=details)
    retryable = answer.status in (408, 425) or answer.status >= 500
    return ToolError(text, retryable=retryable, retry_after=wait, details=details)


def _value(answer: Answer) -> Any:
    if not answer.body:
        return None
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return answer.json()
        except ValueError:
            raise ToolError("the answer says it is JSON and isn't") from None
    return answer.text()
