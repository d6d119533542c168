"""How does a page become something a model can read? Its main part, as Markdown or as text, without scripts and navigation.

Pages are anybody's, so their size, their number of elements and their nesting are bounded before they are walked; what is
malformed is read as leniently as browsers do. Read next: `kastra.tool.toolkit.web`.
"""

from typing import Any
from urllib.parse import urljoin

from kastra.tool.toolkit.bounds import MAX_INPUT
from kastra.tool.toolkit.builtin import unfit

MAX_LEVELS = 120
"""Of nested elements: converting recurses."""
MAX_TAGS = 40_000
MAX_WORK = 30_000_000
"""Characters, and twenty for each element, times levels."""
_DROPPED = ("script", "style", "noscript", "template", "svg", "iframe", "object", "form", "nav", "footer", "aside")


def readable(html: str, url: str, markdown: bool) -> dict[str, Any]:
    """Title and content of a page.

    Args:
        html: the page.
        url: where it came from, by which links are completed.
        markdown: or plain text.

    Raises:
        ToolError: it is too large or nested too deeply.
    """
    page = _parsed(html)
    title = page.title.get_text(" ", strip=True)[:500] if page.title else ""
    for element in page.find_all(_DROPPED):
        element.decompose()
    body = page.find("main") or page.find("article") or page.body or page
    if not markdown:
        lines = (line.strip() for line in body.get_text("\n").splitlines())
        return {"title": title, "content": "\n".join(line for line in lines if line)}
    from markdownify import MarkdownConverter

    _check_cost(body)
    for link in body.find_all("a", href=True):
        link["href"] = urljoin(url, str(link["href"]))
    for image in body.find_all("img"):
        # A picture is its description here, never data.
        image.replace_with(f"[image: {image.get('alt')}]" if image.get("alt") else "")
    try:
        text = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(body)
    except RecursionError:
        raise unfit("this page is nested too deeply to be read; ask for format text") from None
    return {"title": title, "content": _spaced(text)}


def links_of(html: str, url: str) -> list[dict[str, str]]:
    """The links of a page, each once, in order. Raises ToolError as `readable` does."""
    found: dict[str, str] = {}
    for element in _parsed(html).find_all("a", href=True):
        try:
            target = urljoin(url, str(element["href"]).strip()).partition("#")[0]
        except ValueError:
            continue
        if target.startswith(("http://", "https://")) and len(target) <= 2000:
            found.setdefault(target, element.get_text(" ", strip=True)[:200])
    return [{"url": target, "text": text} for target, text in found.items()]


def _parsed(html: str) -> Any:
    import warnings

    from bs4 import BeautifulSoup

    if len(html) > MAX_INPUT:
        raise unfit(
            f"this page has {len(html):,} characters; at most {MAX_INPUT:,} are read. format raw gives its beginning"
        )
    if html.count("<") > MAX_TAGS:
        raise unfit(f"this page has more than {MAX_TAGS:,} tags; format raw gives its beginning")
    with warnings.catch_warnings():
        # The library guesses what a text that looks like an address or like XML was meant to be.
        warnings.simplefilter("ignore")
        # libxml2: Python's own parser takes the square of the time for tags that aren't closed.
        return BeautifulSoup(html, "lxml")


def _check_cost(body: Any) -> None:
    """Converting works through the whole text once per level. Raises ToolError."""
    depths = {id(body): 0}
    deepest = number = 0
    for element in body.descendants:
        depth = depths[id(element)] = depths[id(element.parent)] + 1
        deepest, number = max(deepest, depth), number + 1
    if deepest > MAX_LEVELS or deepest * (len(body.get_text()) + 20 * number) > MAX_WORK:
        raise unfit("this page is nested too deeply to become Markdown; ask for format text")


def _spaced(text: str) -> str:
    """Blank lines are one at most."""
    lines: list[str] = []
    for line in (line.rstrip() for line in text.splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip()
