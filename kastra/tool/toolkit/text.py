"""Group `text`: what can be done with a text without a model.

Regular expressions are RE2, so none of them takes longer than the text is long; comparisons that grow with the square of their
input take short inputs only. Read next: `kastra.tool.toolkit.bounds`.
"""

import difflib
import re
import unicodedata
from collections import Counter
from typing import Annotated, Any, Literal

from kastra.cel import CelError, Template, environment
from kastra.tool.interface import ToolError
from kastra.tool.toolkit.bounds import MAX_ITEMS, MAX_TEXT, bounded, clip, text_of
from kastra.tool.toolkit.builtin import Builtin, unfit
from kastra.tool.toolkit.search import compiled

Pattern = Annotated[str, "Regular expression (RE2)."]
_MAX_LINES = 2_000
_MAX_EDITED = 2_000
_FOUND = {
    "emails": r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+",
    "urls": r"https?://[^\s<>\"'\x60\[\]{}|\\^]+",
    "numbers": r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?",
    "dates": r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?",
    "phones": r"\+?\d(?:[ ()./-]{0,2}\d){6,14}",
    "hashtags": r"#\w{1,100}",
    "mentions": r"@\w{1,100}",
    "ips": r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
}


def split(
    text: str,
    size: Annotated[int, "Characters of a part at most, when no separator is given."] = 4000,
    overlap: Annotated[int, "Characters that a part repeats of the one before."] = 0,
    separator: Annotated[str, "Split at this text instead of by size."] = "",
) -> dict[str, Any]:
    """Split a text at a separator, or into parts of a size that end at paragraphs, sentences or words where they can."""
    text_of(text)
    if separator:
        parts = text.split(separator, MAX_ITEMS)
        more = len(parts) > MAX_ITEMS
        return _list("parts", parts[:MAX_ITEMS], more=more)
    if not 1 <= size <= MAX_TEXT or not 0 <= overlap < size:
        raise unfit(f"size must be from 1 to {MAX_TEXT}, overlap from 0 to less than size")
    parts, start = [], 0
    while start < len(text) and len(parts) < MAX_ITEMS:
        end = min(len(text), start + size)
        if end < len(text):
            end = _break(text, start, end)
        parts.append(text[start:end])
        start = end if end == len(text) else max(end - overlap, start + 1)
    return _list("parts", parts, more=start < len(text))


def _break(text: str, start: int, end: int) -> int:
    """The best place to end a part at, in the second half of it."""
    half = start + (end - start) // 2
    for mark in ("\n\n", "\n", ". ", "。", " "):
        found = text.rfind(mark, half, end)
        if found >= 0:
            return found + len(mark)
    return end


def _list(name: str, items: list[Any], *, more: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = {name: items, "count": len(items)}
    if more:
        result["truncated"] = f"the first {len(items):,}"
    return result


def count(text: str, top: Annotated[int, "Also the most frequent words, this many."] = 0) -> dict[str, Any]:
    """Count characters, words, lines, sentences and (estimated) tokens of a text."""
    text_of(text)
    words = re.findall(r"\w+(?:['’-]\w+)*", text)
    result: dict[str, Any] = {
        "characters": len(text),
        "bytes": len(text.encode("utf-8", "surrogatepass")),
        "words": len(words),
        "lines": len(text.splitlines()),
        "sentences": len(re.findall(r"[.!?。！？]+(?=\s|$|[^\x00-\x7f])", text)),
        "tokens": tokens(text),
    }
    if top > 0:
        common = Counter(word.lower() for word in words).most_common(min(top, 100))
        result["frequent"] = [{"word": word, "count": number} for word, number in common]
    return result


def tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its Latin characters, and every other letter as one."""
    wide = sum(1 for character in text if ord(character) > 0x2E7F)
    return wide + (len(text) - wide + 3) // 4


def find(
    text: str,
    pattern: Pattern,
    ignore_case: bool = False,
    limit: Annotated[int, "Matches at most."] = 100,
) -> dict[str, Any]:
    """Find all matches of a regular expression in a text, with groups and positions."""
    text_of(text)
    matches: list[dict[str, Any]] = []
    wanted = compiled(pattern, ignore_case=ignore_case)
    for match in wanted.finditer(text):
        if len(matches) >= min(max(limit, 1), MAX_ITEMS):
            return _list("matches", matches, more=True)
        entry: dict[str, Any] = {"text": match.group(0)[:MAX_TEXT], "start": match.start(), "end": match.end()}
        if match.groups():
            entry["groups"] = list(match.groups())
        matches.append(entry)
    return _list("matches", matches)


def replace(
    text: str,
    pattern: Annotated[str, "What is replaced: a text, or a regular expression (RE2) if regex is set."],
    replacement: Annotated[str, "What is put there; with regex, \\1 inserts a group."],
    regex: bool = False,
    ignore_case: bool = False,
) -> dict[str, Any]:
    """Replace every occurrence of a text or of a regular expression."""
    text_of(text)
    if not pattern:
        raise unfit("pattern: must not be empty")
    if not regex and not ignore_case:
        number = text.count(pattern)
        if len(text) + number * len(replacement) > 10 * MAX_TEXT:
            raise unfit("the result would be too large")
        return {"text": clip(text.replace(pattern, replacement)), "replaced": number}
    wanted = compiled(pattern if regex else _literal(pattern), ignore_case=ignore_case)
    parts, size, end, number = list[str](), 0, 0, 0
    for match in wanted.finditer(text):
        put = _expanded(match, replacement) if regex else replacement
        parts += [text[end : match.start()], put]
        size += match.start() - end + len(put)
        if size > 10 * MAX_TEXT:
            raise unfit("the result would be too large")
        end, number = match.end(), number + 1
    return {"text": clip("".join([*parts, text[end:]])), "replaced": number}


def _literal(text: str) -> str:
    import re2

    escaped: str = re2.escape(text)
    return escaped


def _expanded(match: Any, replacement: str) -> str:
    groups = match.groups()

    def group(reference: re.Match[str]) -> str:
        if reference[1] == "\\":
            return "\\"
        number = int(reference[1])
        if number > len(groups):
            raise unfit(f"replacement: the pattern has no group {number}")
        return str(match.group(number) or "")

    return re.sub(r"\\(\\|\d)", group, replacement)


def extract(
    text: str, what: Literal["emails", "urls", "numbers", "dates", "phones", "hashtags", "mentions", "ips"]
) -> dict[str, Any]:
    """Pull emails, URLs, numbers, dates and the like out of a text, each once, in order."""
    text_of(text)
    found: dict[str, None] = {}
    for match in compiled(_FOUND[what]).finditer(text):
        found.setdefault(match.group(0).rstrip(".,;:!?)") if what == "urls" else match.group(0))
        if len(found) > MAX_ITEMS:
            return _list("found", list(found)[:MAX_ITEMS], more=True)
    return _list("found", list(found))


def template(text: Annotated[str, "Text with ${{ values.x }}; expressions are CEL."], values: dict[str, Any]) -> str:
    """Fill values into a text, at ${{ values.name }}."""
    text_of(text, limit=MAX_TEXT)
    try:
        made = Template.compile(text, environment("values"), "text").evaluate({"values": bounded(values, "values")})
    except CelError as error:
        raise ToolError(str(error), type="expression", retryable=False) from None
    return clip(made if isinstance(made, str) else str(made))


def diff(
    before: str, after: str, context: Annotated[int, "Unchanged lines shown around a change."] = 3
) -> dict[str, Any]:
    """Compare two texts by lines, as a unified diff."""
    old, new = text_of(before, "before").splitlines(), text_of(after, "after").splitlines()
    if max(len(old), len(new)) > _MAX_LINES:
        raise unfit(f"at most {_MAX_LINES:,} lines are compared; compare parts")
    lines = list(difflib.unified_diff(old, new, "before", "after", lineterm="", n=min(max(context, 0), 100)))
    added = sum(1 for line in lines[2:] if line.startswith("+"))
    removed = sum(1 for line in lines[2:] if line.startswith("-"))
    return {"equal": before == after, "added": added, "removed": removed, "diff": clip("\n".join(lines))}


def slugify(
    text: str, separator: Annotated[str, "Between words."] = "-", length: Annotated[int, "Characters at most."] = 80
) -> str:
    """Make a text fit for file names and URLs: lower case, ASCII letters and digits, words joined."""
    text_of(text, limit=10_000)
    if len(separator) > 3 or not 1 <= length <= 1000:
        raise unfit("separator has at most 3 characters, length is from 1 to 1000")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.split(r"[^a-z0-9]+", plain.replace("'", "")) if word]
    return separator.join(words)[:length].strip(separator) if separator else "".join(words)[:length]


def similarity(a: str, b: str) -> dict[str, Any]:
    """Tell how alike two texts are, from 0 to 1, by their parts of three letters; for short ones also the edit distance."""
    left, right = (_normal(text_of(text, name)) for text, name in ((a, "a"), (b, "b")))
    result: dict[str, Any] = {"equal": a == b, "similarity": round(_dice(_trigrams(left), _trigrams(right)), 4)}
    if max(len(a), len(b)) <= _MAX_EDITED:
        result["editDistance"] = _distance(a, b)
    return result


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _trigrams(text: str) -> Counter[str]:
    padded = f"  {text} "
    return Counter(padded[index : index + 3] for index in range(len(padded) - 2)) if text else Counter()


def _dice(a: Counter[str], b: Counter[str]) -> float:
    total = a.total() + b.total()
    return 1.0 if not total else 2 * (a & b).total() / total


def _distance(a: str, b: str) -> int:
    """Levenshtein's, by rows."""
    previous = list(range(len(b) + 1))
    for row, left in enumerate(a, 1):
        current = [row]
        for column, right in enumerate(b, 1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (left != right)))
        previous = current
    return previous[-1]


def truncate(
    text: str,
    tokens_at_most: Annotated[int, "About how many tokens the result may have."],
    keep: Annotated[Literal["start", "end", "both"], "Which part is kept."] = "start",
) -> dict[str, Any]:
    """Shorten a text to about so many tokens, at the end, at the beginning or in the middle."""
    text_of(text)
    if tokens_at_most < 1:
        raise unfit("tokens_at_most: must be at least 1")
    total = tokens(text)
    if total <= tokens_at_most:
        return {"text": clip(text), "tokens": total, "truncated": False}
    half = tokens_at_most if keep != "both" else max(1, tokens_at_most // 2)
    kept = {
        "start": lambda: _within(text, half) + " …",
        "end": lambda: "… " + _within(text[::-1], half)[::-1],
        "both": lambda: _within(text, half) + " … " + _within(text[::-1], half)[::-1],
    }[keep]()
    return {"text": clip(kept), "tokens": tokens(kept), "truncated": True, "of": total}


def _within(text: str, limit: int) -> str:
    quarters = 0
    for index, character in enumerate(text):
        quarters += 4 if ord(character) > 0x2E7F else 1
        if quarters > 4 * limit:
            return text[:index]
    return text


TOOLS = (
    Builtin("text.split", split),
    Builtin("text.count", count),
    Builtin("text.find", find),
    Builtin("text.replace", replace),
    Builtin("text.extract", extract),
    Builtin("text.template", template),
    Builtin("text.diff", diff),
    Builtin("text.slugify", slugify),
    Builtin("text.similarity", similarity),
    Builtin("text.truncate", truncate),
)
