"""Is this a good name, and what might have been meant instead?

Names of most objects are DNS subdomains, those of RBAC objects single path segments, those of namespaces DNS labels. The
server completes generateName with five letters that can't form words. `closest` finds the near miss behind a typing error.

Source: apimachinery's api/validation and util/rand. Read next: `kastra.api.meta`.
"""

import os
from collections.abc import Callable, Iterable

from .meta import is_dns_label, is_dns_subdomain

SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_MAX_GENERATED = 63

_RBAC_KINDS = frozenset(("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"))
_LABEL_KINDS = frozenset(("Namespace",))

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def name_problems(name: str, kind: str = "") -> list[str]:
    """What is wrong with an object's name, in Kubernetes' words; empty when it is fine.

    Args:
        name: as in metadata.name.
        kind: of the object; decides which rule holds.
    """
    if kind in _RBAC_KINDS:
        return _path_segment_problems(name)
    longest = 63 if kind in _LABEL_KINDS else 253
    if len(name) > longest:
        return [f"must be no more than {longest} characters"]
    if kind in _LABEL_KINDS:
        return [] if is_dns_label(name) else [_LABEL_RULE]
    return [] if is_dns_subdomain(name) else [_SUBDOMAIN_RULE]


def generate_name_problems(prefix: str, kind: str = "") -> list[str]:
    """What is wrong with metadata.generateName; unlike a name it may end with a dash."""
    return name_problems(prefix[:-1] + "a" if prefix.endswith("-") else prefix, kind)


def _path_segment_problems(name: str) -> list[str]:
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in name]


def _choose(alphabet: str) -> str:
    # The module `secrets` would do the same and cost 5 ms of every command's start.
    return alphabet[int.from_bytes(os.urandom(4)) % len(alphabet)]


def generate_name(prefix: str, choose: Callable[[str], str] = _choose) -> str:
    """`prefix` and five random characters. Among many objects it may exist already: then generate another.

    Args:
        prefix: metadata.generateName; cut so that the name has at most 63 characters.
        choose: picks one character of a text; give another to make names predictable.
    """
    suffix = "".join(choose(SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return prefix[: _MAX_GENERATED - _SUFFIX_LENGTH] + suffix


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` was probably meant to be, or None when none is near or two are equally so.

    Case is no difference. One typing error (a wrong, missing, extra or swapped character) is near in a word of at least
    three characters, two from six on, three from ten on.
    """
    wanted = word.lower()
    allowed = 0 if len(wanted) < 3 else 1 if len(wanted) < 6 else 2 if len(wanted) < 10 else 3
    best: list[str] = []
    distance = allowed + 1
    for candidate in dict.fromkeys(candidates):
        if abs(len(candidate) - len(wanted)) > allowed:
            continue
        found = edit_distance(wanted, candidate.lower(), distance)
        if found < distance:
            best, distance = [candidate], found
        elif found == distance and best:
            best.append(candidate)
    return best[0] if len(best) == 1 else None


def edit_distance(a: str, b: str, limit: int) -> int:
    """How many single-character errors lie between `a` and `b`, swapped neighbours counting as one; `limit + 1` if more."""
    previous: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, previous, row = previous, row, [i]
        for j, y in enumerate(b, start=1):
            cost = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > limit and min(previous) > limit:
            return limit + 1
    return min(row[-1], limit + 1)
