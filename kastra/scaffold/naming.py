"""What may a project, a kind or an object be called, and how are files and Python names derived from that?

Each check returns the name or raises ValueError with a sentence that says what is wrong and gives an example. Source: DNS
labels of RFC 1123, and what Kubernetes asks of a CustomResourceDefinition's names. Read next: `kastra.scaffold.templates`.
"""

import keyword
import re
from dataclasses import dataclass

from kastra.api.meta import GROUP, is_dns_label, is_dns_subdomain

_PROJECT = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_PLURAL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+|[0-9]+")
_LONGEST = 63
_PROTECTED = ("k8s.io", "kubernetes.io")


def words_of(name: str) -> list[str]:
    """`DataSource`, `dataSource`, `data-source` and `data_source` as `['data', 'source']`."""
    return [word.lower() for word in _WORDS.findall(name)]


def snake(name: str) -> str:
    """A name as a Python module or variable is called: `data_source`."""
    text = "_".join(words_of(name)) or "field"
    if text[0].isdigit():
        text = f"n{text}"
    return f"{text}_" if keyword.iskeyword(text) else text


def kebab(name: str) -> str:
    """A name as an object is called: `data-source`."""
    return "-".join(words_of(name))


def pascal(name: str) -> str:
    """A name as a class is called: `DataSource`."""
    text = "".join(word[:1].upper() + word[1:] for word in _WORDS.findall(name))
    return f"N{text}" if not text or text[0].isdigit() else text


def plural_of(word: str) -> str:
    """The regular English plural of a word in lower case."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def project_name(name: str) -> str:
    """The name of a project, which is also that of its Python distribution. Raises ValueError."""
    if len(name) <= _LONGEST and _PROJECT.fullmatch(name):
        return name
    raise ValueError(
        f'"{name}" can\'t be the name of a project: use lower case letters, digits and single hyphens, beginning with a '
        f"letter, at most {_LONGEST} characters, such as {_example(name, 'my-agents')}"
    )


def object_name(name: str) -> str:
    """The name of an object from which file names are derived, too. Raises ValueError."""
    if is_dns_label(name):
        return name
    raise ValueError(
        f'"{name}" can\'t be the name of an object: use lower case letters, digits and hyphens, beginning and ending with '
        f"a letter or digit, at most {_LONGEST} characters, such as {_example(name, 'find-books')}"
    )


def group_name(group: str) -> str:
    """The API group of a new kind. Raises ValueError: it isn't a domain, or belongs to somebody else."""
    if not is_dns_subdomain(group) or "." not in group:
        raise ValueError(f'--group: "{group}" isn\'t a domain in lower case, such as example.com; use one of your own')
    if group == GROUP or group.endswith(f".{GROUP}"):
        raise ValueError(f"--group: {GROUP} is the group of Kastra's own kinds; use a domain of your own")
    if any(group == domain or group.endswith(f".{domain}") for domain in _PROTECTED):
        raise ValueError(f'--group: "{group}" is reserved for Kubernetes; use a domain of your own')
    return group


def _example(name: str, otherwise: str) -> str:
    found = kebab(name)[:_LONGEST]
    return found if _PROJECT.fullmatch(found) else otherwise


@dataclass(frozen=True, slots=True)
class KindNames:
    """All names of a kind.

    Args:
        kind: `DataSource`.
        group: `example.com`.
        plural: `datasources`, unless given.
    """

    kind: str
    group: str
    plural: str

    @classmethod
    def derive(cls, kind: str, group: str, plural: str = "") -> "KindNames":
        """The names of a kind, checked.

        Raises:
            ValueError: one can't be used.
        """
        if not _KIND.fullmatch(kind):
            guess = pascal(kind)
            example = guess if _KIND.fullmatch(guess) and guess != kind else "DataSource"
            raise ValueError(
                f'"{kind}" can\'t be a kind: write it in CamelCase with letters and digits, such as {example}'
            )
        group_name(group)
        plural = plural or plural_of(kind.lower())
        if not _PLURAL.fullmatch(plural) or len(plural) > _LONGEST:
            raise ValueError(
                f'--plural: "{plural}" must be lower case letters, digits and hyphens, such as datasources'
            )
        return cls(kind, group, plural)

    @property
    def singular(self) -> str:
        """`datasource`."""
        return self.kind.lower()

    @property
    def module(self) -> str:
        """The Python module of its view and of its controller: `data_source`."""
        return snake(self.kind)

    @property
    def definition(self) -> str:
        """The name of its CustomResourceDefinition: `datasources.example.com`."""
        return f"{self.plural}.{self.group}"
