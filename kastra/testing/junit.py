"""Results as JUnit XML, the form that build servers read. Read next: `kastra.testing.runner`."""

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from .cases import TestFile
from .runner import Result

_TAGS = {"failed": "failure", "error": "error"}


def junit(files: Sequence[tuple[TestFile, Sequence[Result]]]) -> str:
    """One suite a file; a file that can't be read is a suite with one error."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<testsuites>"]
    for test_file, results in files:
        counts = {
            status: sum(result.status == status for result in results) for status in ("failed", "error", "skipped")
        }
        broken = bool(test_file.problems)
        seconds = sum(result.seconds for result in results)
        lines.append(
            f'  <testsuite name={_attribute(test_file.shown)} tests="{len(results) + broken}" failures="{counts["failed"]}" '
            f'errors="{counts["error"] + broken}" skipped="{counts["skipped"]}" time="{seconds:.3f}">'
        )
        if broken:
            told = "\n".join(map(str, test_file.problems))
            lines.append(f'    <testcase classname={_attribute(test_file.shown)} name="file" time="0">')
            lines.append(f"      <error message={_attribute(str(test_file.problems[0]))}>{_text(told)}</error>")
            lines.append("    </testcase>")
        for result in results:
            lines += _case(test_file, result)
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _case(test_file: TestFile, result: Result) -> list[str]:
    head = f'    <testcase classname={_attribute(test_file.shown)} name={_attribute(result.case.name)} time="{result.seconds:.3f}"'
    if result.status == "skipped":
        return [f"{head}>", f"      <skipped message={_attribute(result.case.skip)}/>", "    </testcase>"]
    if result.status not in _TAGS:
        return [f"{head}/>"]
    tag = _TAGS[result.status]
    message = str(result.problems[0][0]) if result.problems else result.status
    return [f"{head}>", f"      <{tag} message={_attribute(message)}>{_text(result.text())}</{tag}>", "    </testcase>"]


def _attribute(text: str) -> str:
    return quoteattr(_xml(text), {"\n": "&#10;"})


def _text(text: str) -> str:
    return escape(_xml(text))


def _xml(text: str) -> str:
    return "".join(
        char
        for char in text
        if char in "\t\n" or (char >= " " and char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff")
    )
