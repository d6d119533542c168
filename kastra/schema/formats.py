"""Is this text of that format? The formats that a schema may name, and RE2 patterns.

Formats not known here are accepted whatever the value, as in Kubernetes. A user's pattern runs on RE2, which takes linear
time; look-around and back-references don't exist in it and are refused when the schema is read.

Source: kube-openapi's strfmt, RFC 3339, RFC 5322, RFC 4122. Read next: `kastra.schema.walker`.
"""

import base64
import binascii
import datetime
import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import re2

from kastra.api.durations import parse_duration
from kastra.api.meta import is_dns_label, is_dns_subdomain
from kastra.api.quantities import parse_quantity

# Patterns of our own, without nested repetition; `re` is safe for them.
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([^@\s]{1,255})", re.ASCII)
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_UUID = re.compile(
    r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?([0-9a-fA-F])[0-9a-fA-F]{3}-?([0-9a-fA-F])[0-9a-fA-F]{3}-?[0-9a-fA-F]{12}"
)
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-])[0-9a-fA-F]{2}(\1[0-9a-fA-F]{2}){4}")
_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")

TextCheck = Callable[[str], bool]


class PatternError(ValueError):
    """A pattern isn't RE2."""


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Callable[[str], Any]:
    """The unanchored search of an RE2 pattern: a truthy result means that it matches.

    Raises:
        PatternError: it is no RE2; look-around and back-references aren't.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        search: Callable[[str], Any] = re2.compile(text, options).search
    except re2.error as error:
        message = error.args[0] if error.args else error
        raise PatternError(message.decode() if isinstance(message, bytes) else str(message)) from None
    return search


def text_format(name: str) -> TextCheck | None:
    """The check of a string format, or None for one that isn't known."""
    return _TEXT.get(name)


def integer_range(name: str) -> tuple[int, int] | None:
    """The bounds of an integer format, or None for one that isn't known."""
    return {"int32": (-(1 << 31), (1 << 31) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}.get(name)


def _parses(parse: Callable[[str], Any]) -> TextCheck:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _date_time(text: str) -> bool:
    # The same few times stand in a status again and again, and are those of many objects.
    return _short_date_time(text) if len(text) <= _SHORT_TIME else _is_date_time(text)


def _is_date_time(text: str) -> bool:
    found = _DATE_TIME.fullmatch(text)
    if found is None or not _date(found[1]):
        return False
    # A leap second is 60; offsets reach to 23:59.
    zone = found[6]
    offset_fits = zone in "Zz" or (int(zone[1:3]) < 24 and int(zone[4:6]) < 60)
    return int(found[2]) < 24 and int(found[3]) < 60 and int(found[4]) <= 60 and offset_fits


_SHORT_TIME = 32
_short_date_time = lru_cache(maxsize=1024)(_is_date_time)


def _hostname(text: str) -> bool:
    text = text.removesuffix(".")
    return 0 < len(text) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in text.split("."))


def _email(text: str) -> bool:
    found = _EMAIL.fullmatch(text)
    return found is not None and ".." not in text and _hostname(found[1])


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.scheme) and bool(parts.netloc or parts.path) and not re.search(r"[\s<>\"{}|\\^`]", text)


def _uuid(version: str = "") -> TextCheck:
    def check(text: str) -> bool:
        found = _UUID.fullmatch(text)
        return found is not None and (not version or (found[1] == version and found[2].lower() in "89ab"))

    return check


def _byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


_TEXT: dict[str, TextCheck] = {
    "date-time": _date_time,
    "datetime": _date_time,
    "date": _date,
    "duration": _parses(parse_duration),
    "email": _email,
    "hostname": _hostname,
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": lambda text: "/" in text and _parses(lambda cidr: ipaddress.ip_network(cidr, strict=False))(text),
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "uri": _uri,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4"),
    "uuid5": _uuid("5"),
    "byte": _byte,
    "hexcolor": lambda text: _HEX_COLOR.fullmatch(text) is not None,
    "quantity": _parses(parse_quantity),
    "k8s-short-name": is_dns_label,
    "k8s-long-name": is_dns_subdomain,
}
