"""Group `http`: the web, as far as the outbound guard lets.

Redirects are followed here and not by the guard, so that a list of allowed hosts holds for each of them. What a page says is
data, never an instruction; the result says where it came from. Read next: `kastra.netguard.guard`, `kastra.tool.toolkit.html`.
"""

import fnmatch
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urljoin

import anyio.to_thread

from kastra.netguard import Answer, BadAnswer, ConnectionFailed, Limits, Refused, Target, TimedOut
from kastra.tool.interface import ToolContext, ToolError
from kastra.tool.toolkit.bounds import MAX_TEXT, clip, parse_json, write_json
from kastra.tool.toolkit.builtin import FETCH, SEND, Builtin, Effect, forbidden, unfit
from kastra.tool.toolkit.html import links_of, readable
from kastra.tool.toolkit.kit import Kit

MAX_REDIRECTS = 5
_TIMEOUT = 30.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SHOWN = ("content-type", "content-length", "last-modified", "etag", "date", "server", "location", "retry-after")

Url = Annotated[str, "Absolute address, http or https."]


async def fetch(
    kit: Kit,
    url: Url,
    format: Annotated[  # noqa: A002 - what it is called for a model
        Literal["markdown", "text", "raw"], "Of HTML: as Markdown, as plain text, or as it is."
    ] = "markdown",
) -> dict[str, Any]:
    """Fetch a page and give its content as Markdown or text."""
    final, answer = await _get(kit, "GET", url)
    kind = _kind(answer)
    if kind and not (kind.startswith("text/") or "json" in kind or "xml" in kind or "javascript" in kind):
        raise unfit(f"{_origin(final)} answered {kind}, which is no text; http.download saves it")
    text = _decoded(answer)
    result: dict[str, Any] = {"url": final, "contentType": kind}
    if "html" in kind and format != "raw":
        page = await anyio.to_thread.run_sync(readable, text, final, format == "markdown")
        result |= page
    else:
        result["content"] = text
    result["content"] = clip(result["content"])
    return result


async def fetch_json(kit: Kit, url: Url) -> Any:
    """Fetch a JSON document as a value."""
    final, answer = await _get(kit, "GET", url, accept="application/json")
    try:
        return parse_json(_decoded(answer), _origin(final))
    except ToolError as error:
        raise ToolError(f"{error.message}; it says it is {_kind(answer) or 'of no type'}", retryable=False) from None


async def links(
    kit: Kit, url: Url, same_site: Annotated[bool, "Only links to the same host."] = False
) -> dict[str, Any]:
    """List the links of a page, with their texts."""
    final, answer = await _get(kit, "GET", url)
    found = await anyio.to_thread.run_sync(links_of, _decoded(answer), final)
    if same_site:
        host = Target.parse(final).host
        found = [link for link in found if _host(link["url"]) == host]
    result: dict[str, Any] = {"url": final, "links": found[:500]}
    if len(found) > 500:
        result["truncated"] = f"the first 500 of {len(found)} links"
    return result


async def head(kit: Kit, url: Url) -> dict[str, Any]:
    """Ask for the headers of an address: whether it is there, its type, its size."""
    final, answer = await _get(kit, "HEAD", url, refuse=False)
    return {"url": final, "status": answer.status, "headers": _headers(answer)}


async def download(
    kit: Kit,
    url: Url,
    path: Annotated[str, "Where to save it, relative to the tool's folder."],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Save what is at an address as a file."""
    final, answer = await _get(kit, "GET", url)
    await anyio.to_thread.run_sync(lambda: kit.jail.write(path, answer.body, overwrite=overwrite))
    return {"url": final, "path": path, "bytes": len(answer.body), "contentType": _kind(answer)}


async def send(
    kit: Kit,
    context: ToolContext,
    url: Url,
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST",
    body: Annotated[Any, "Sent as JSON; a text is sent as it is."] = None,
) -> dict[str, Any]:
    """Send a request with a JSON body to one of the allowed hosts; gives status and answer."""
    headers = {"Idempotency-Key": context.idempotency_key, "Accept": "application/json, */*;q=0.5"}
    content = b""
    if body is not None:
        text = body if isinstance(body, str) else write_json(body)
        content = text.encode("utf-8", "surrogatepass")
        headers["Content-Type"] = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
    answer = await _call(kit, method, url, headers, content)
    if answer.status in (429, 502, 503, 504):
        raise _status_error(url, answer)
    result: dict[str, Any] = {"status": answer.status}
    text = _decoded(answer)
    try:
        result["body"] = parse_json(text) if "json" in _kind(answer) else clip(text, MAX_TEXT)
    except ToolError:
        result["body"] = clip(text, MAX_TEXT)
    return result


async def _get(
    kit: Kit, method: str, url: str, *, accept: str = "text/html, text/*;q=0.9, */*;q=0.5", refuse: bool = True
) -> tuple[str, Answer]:
    """Where the redirects ended, and the answer there."""
    current = url
    for _ in range(MAX_REDIRECTS + 1):
        answer = await _call(kit, method, current, {"Accept": accept}, b"")
        location = answer.headers.get("location")
        if answer.status in _REDIRECTS and location:
            following = urljoin(current, location)
            if current.lower().startswith("https:") and following.lower().startswith("http:"):
                raise forbidden(f"{_origin(current)} redirects from https to http")
            current = following
            continue
        if refuse and not 200 <= answer.status < 300:
            raise _status_error(current, answer)
        return current, answer
    raise ToolError(f"{_origin(url)}: more than {MAX_REDIRECTS} redirects", retryable=False)


async def _call(kit: Kit, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Answer:
    settings = kit.settings
    hosts = [str(host).lower() for host in settings.get("hosts") or ()]
    try:
        host = Target.parse(url).host
        if hosts and not any(fnmatch.fnmatchcase(host, entry) for entry in hosts):
            raise forbidden(f"{host} is not among the hosts that this tool may call: {', '.join(hosts)}")
        return await kit.guard.request(
            method,
            url,
            headers=headers,
            content=content,
            allow_private=bool(settings.get("allowPrivate")),
            limits=Limits(timeout=_TIMEOUT, max_bytes=kit.max_bytes, max_redirects=0),
        )
    except Refused as error:
        raise ToolError(str(error), type="authorization", retryable=False) from None
    except TimedOut as error:
        raise ToolError(str(error), type="timeout") from None
    except ConnectionFailed as error:
        raise ToolError(str(error)) from None
    except BadAnswer as error:
        raise ToolError(str(error), retryable=False) from None


def _status_error(url: str, answer: Answer) -> ToolError:
    text = f"{_origin(url)} answered HTTP {answer.status}"
    said = " ".join(_decoded(answer)[:300].split()) if "html" not in _kind(answer) else ""
    after = answer.headers.get("retry-after", "")
    wait = min(float(after), 3600.0) if after.isdigit() else None
    message = f"{text}{f': {said}' if said else ''}"
    if answer.status == 429:
        return ToolError(message, type="rate_limit", retry_after=wait)
    if answer.status in (401, 403):
        return ToolError(message, type="authorization", retryable=False)
    return ToolError(message, retryable=answer.status in (408, 425) or answer.status >= 500, retry_after=wait)


def _kind(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _decoded(answer: Answer) -> str:
    """The body as text, in the encoding that its type names, else UTF-8."""
    _, _, parameters = answer.headers.get("content-type", "").partition(";")
    name = next(
        (
            value.strip("\"' ")
            for key, _, value in (p.partition("=") for p in parameters.split(";"))
            if key.strip() == "charset"
        ),
        "utf-8",
    )
    try:
        return answer.body.decode(name if name.lower() in _CHARSETS else "utf-8", "replace")
    except LookupError:
        return answer.body.decode("utf-8", "replace")


_CHARSETS = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "latin1", "windows-1252", "windows-1251", "koi8-r",
     "shift_jis", "euc-jp", "euc-kr", "gb2312", "gbk", "gb18030", "big5", "utf-16"}
)  # fmt: skip
"""Only encodings of texts: Python knows others by name, some of which decompress."""


def _headers(answer: Answer) -> dict[str, str]:
    return {name: value[:500] for name, value in answer.headers.items() if name in _SHOWN}


def _origin(url: str) -> str:
    try:
        return Target.parse(url).origin
    except Refused:
        return "the address"


def _host(url: str) -> str:
    try:
        return Target.parse(url).host
    except Refused:
        return ""


_WEB = ("hosts", "allowPrivate", "maxBytes")
_SAVE = Effect("fetches", read_only=False, destructive=True, open_world=True)
TOOLS = (
    Builtin("http.fetch", fetch, FETCH, _WEB, timeout=120.0),
    Builtin("http.json", fetch_json, FETCH, _WEB, timeout=120.0),
    Builtin("http.links", links, FETCH, _WEB, timeout=120.0),
    Builtin("http.head", head, FETCH, _WEB, timeout=120.0),
    Builtin("http.download", download, _SAVE, (*_WEB, "folder"), timeout=120.0),
    Builtin("http.send", send, SEND, _WEB, ("hosts",), timeout=60.0),
)
