"""Which headers may a caller give? Those that neither frame the message nor break out of their line. Pure functions.

Source: RFC 9110, 5.1 and 5.5. Read next: `kastra.netguard.guard`.
"""

import re
from collections.abc import Mapping

from kastra.netguard.errors import Refused
from kastra.version import __version__

CROSS_ORIGIN = frozenset({"accept", "accept-language", "user-agent", "content-type"})
"""Headers that follow a redirect to another origin."""
_OWN = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_NOT_IN_VALUES = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_DEFAULTS = {"user-agent": f"kastra/{__version__}", "accept": "*/*"}


def is_token(text: str) -> bool:
    """Whether a text can be a method, or the name of a header."""
    return _TOKEN.fullmatch(text) is not None


def checked(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a call by their lower-case names: those given, and what is said where they don't.

    Raises:
        Refused: one isn't the caller's to give, or has characters that HTTP doesn't allow.
    """
    fields = dict(_DEFAULTS)
    for name, value in headers.items():
        lower = name.lower()
        if lower in _OWN:
            raise Refused(f"header {name}: it is set by the connection and can't be given")
        if not is_token(name):
            raise Refused("header: its name has characters that HTTP doesn't allow")
        if _NOT_IN_VALUES.search(value):
            raise Refused(f"header {name}: its value has characters that HTTP doesn't allow")
        fields[lower] = value.strip()
    return fields
