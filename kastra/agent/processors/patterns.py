"""What is looked for in texts: personal data, secrets, addresses, orders to a model. RE2 only, so no text takes long.

Heuristics: they find what has a known form, and no more. Each rule has a name, which is all that is ever told of a match.
Read next: `kastra.agent.processors.catalogue`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from .interface import Found, Scan


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to look for.

    Args:
        name: what it is called when it is found.
        pattern: compiled by RE2.
        replacement: what stands in its place.
        holds: whether a match really is one; None for always.
    """

    name: str
    pattern: Any
    replacement: str
    holds: Callable[[str], bool] | None = None


def rule(name: str, pattern: str, replacement: str = "", holds: Callable[[str], bool] | None = None) -> Rule:
    """A rule from the text of a pattern.

    Raises:
        ValueError: it is no RE2 pattern.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return Rule(name, re2.compile(pattern, options), replacement or f"[{name.upper()}]", holds)
    except re2.error as error:
        said = error.args[0] if error.args else error
        raise ValueError(f"no RE2 pattern: {said.decode() if isinstance(said, bytes) else said}") from None


def readable(text: str) -> str:
    """The text without halves of surrogate pairs, which no pattern, no provider and no journal can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def luhn(text: str) -> bool:
    """Whether the digits of a text have the checksum of a card number."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


PII = (
    rule("email", r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"),
    rule("credit-card", r"\b\d(?:[ -]?\d){12,18}\b", holds=luhn),
    rule("iban", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"),
    rule("ssn", r"\b\d{3}-\d{2}-\d{4}\b"),
    rule("phone", r"(?:\+\d{1,3}[ .-]?)(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}\b|\b\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b"),
    rule("ip-address", r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b"),
)
SECRETS = (
    rule("private-key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)"),
    rule("api-key", r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}|\bAIza[0-9A-Za-z_-]{35}\b"),
    rule("aws-key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    rule("github-token", r"\bgh[opsur]_[A-Za-z0-9]{30,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b"),
    rule("slack-token", r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    rule("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"),
    rule(
        "password",
        r"(?i)\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)\b[\"']?\s{0,8}[:=]\s{0,8}[\"']?[^\s\"',;]{6,}",
    ),
)
URLS = (rule("url", r"(?i)\bhttps?://[^\s<>\"']+"),)
WINDOWS: Mapping[str, int] = {"pii": 64, "secrets": 96, "urls": 16}
"""By preset: the most characters, in words with blanks between them, in which something shows what it is. A single word may be
of any length."""
PRESETS: Mapping[str, Sequence[Rule]] = {"pii": PII, "secrets": SECRETS, "urls": URLS}

_ORDERS = r"(?:instructions?|prompts?|rules|directions|guidelines|messages?|context)"
INJECTION = (
    rule(
        "override",
        r"(?i)\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,30}"
        r"\b(?:previous|prior|above|earlier|preceding|your|system|all)\b[^.\n]{0,30}\b" + _ORDERS,
    ),
    rule("override", r"(?i)\b(?:ignorier|vergiss|missachte)\w*\b[^.\n]{0,40}\b(?:anweisung|regel|vorgabe)\w*"),
    rule("override", r"(?:忽略|无视|忘记)[^。\n]{0,12}(?:指令|指示|提示|规则)"),
    rule(
        "reveal",
        r"(?i)\b(?:reveal|print|show|repeat|output|tell me|display)\b[^.\n]{0,30}\b(?:your|the|system)\b[^.\n]{0,20}"
        r"\b(?:system prompt|initial prompt|hidden (?:prompt|instructions)|instructions)\b",
    ),
    rule(
        "role", r"(?i)\byou are (?:now|no longer)\b[^.\n]{0,60}\b(?:dan|jailbroken|unrestricted|developer mode|root)\b"
    ),
    rule("role", r"(?i)\b(?:do anything now|developer mode (?:on|enabled)|jailbreak mode)\b"),
    rule("markup", r"(?i)<\|(?:im_start|im_end|system|endoftext)\|>|\[/?INST\]|<</?SYS>>|^\s*#{2,}\s*system\b"),
    rule(
        "secrecy",
        r"(?i)\b(?:do not|don't|never|without)\b[^.\n]{0,20}\b(?:tell|inform|notify|telling|informing)\b[^.\n]{0,10}\b(?:the )?user\b",
    ),
    # Characters of Unicode's tag block show nothing and are read by models.
    rule("hidden", "[\U000e0020-\U000e007f]{3,}"),
)


def scanning(rules: Sequence[Rule]) -> Scan:
    """What finds and replaces whatever the rules describe."""

    def scan(text: str, _instructions: str) -> tuple[str, Found]:
        found: dict[str, int] = {}
        for each in rules:
            if each.pattern.search(text) is None:
                continue
            text = each.pattern.sub(_replacing(each, found), text)
        return text, found

    return scan


def _replacing(each: Rule, found: dict[str, int]) -> Callable[[Any], str]:
    def replace(match: Any) -> str:
        matched: str = match.group(0)
        if not matched or (each.holds is not None and not each.holds(matched)):
            return matched
        found[each.name] = found.get(each.name, 0) + 1
        return each.replacement

    return replace


def words(listed: Sequence[str]) -> Scan:
    """What finds whole words, in any case."""
    return scanning([rule("word", rf"(?i)(?:^|\b){re2.escape(word)}(?:\b|$)", "[REMOVED]") for word in listed])


_SHORTEST = 24
"""Characters of a passage that counts as one of the instructions."""


def passages(text: str, instructions: str) -> tuple[str, Found]:
    """Sentences of the instructions that an answer repeats."""
    told = " ".join(instructions.split())
    count = 0
    for passage in _sentences(told):
        if len(passage) < _SHORTEST:
            continue
        # However the answer breaks its lines.
        pattern = re2.compile("(?i)" + r"\s+".join(re2.escape(word) for word in passage.split()))
        text, made = pattern.subn("[REMOVED]", text)
        count += made
    return text, ({"passage": count} if count else {})


def _sentences(text: str) -> list[str]:
    found: list[str] = []
    start = 0
    for index, char in enumerate(text):
        if char in ".!?:;" and text[index + 1 : index + 2] in ("", " "):
            found.append(text[start:index].strip())
            start = index + 1
    return [*found, text[start:].strip()]
