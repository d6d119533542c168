"""Which URLs may be called, and which addresses may they resolve to? Judged from values alone, no input or output.

A URL is taken apart once, strictly, so that what is checked is what is called: forms that readers of URLs disagree about
(user information, backslashes, `127.1`, `0x7f000001`) are refused, not interpreted. Addresses that carry another one
inside are judged by the one inside.

Source: OWASP SSRF prevention; the IANA special-purpose address registries; RFC 6052 (NAT64), RFC 3056 (6to4).
Read next: `kastra.netguard.guard`, which makes the calls.
"""

import fnmatch
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Self

from kastra.netguard.errors import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")

_NETWORKS_4 = {
    "unspecified": ("0.0.0.0/8",),
    "loopback": ("127.0.0.0/8",),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    "link-local": ("169.254.0.0/16",),
    "multicast": ("224.0.0.0/4",),
    "reserved": (
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
    ),
}  # fmt: skip
_NETWORKS_6 = {
    "unspecified": ("::/128",),
    "loopback": ("::1/128",),
    "private": ("fc00::/7", "fec0::/10"),
    "link-local": ("fe80::/10",),
    "multicast": ("ff00::/8",),
    "reserved": ("2001::/23", "2001:db8::/32", "3fff::/20"),
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_ALLOWED_PRIVATE = frozenset({"loopback", "private"})


def category(address: Address) -> str:
    """What kind of address this is: `public`, or one of unspecified, loopback, private, link-local, multicast, reserved.

    Addresses that carry another one inside (IPv4-mapped, NAT64, 6to4) are judged by the one inside; what tunnels
    elsewhere (6to4, Teredo) is at best `reserved`.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return next((name for name, nets in _tables()[4] if any(address in net for net in nets)), "public")
    if address.ipv4_mapped is not None:
        return category(address.ipv4_mapped)
    if address in _NAT64:
        return category(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        inner = category(address.sixtofour)
        return "reserved" if inner == "public" else inner
    for name, networks in _tables()[6]:
        if any(address in network for network in networks):
            return name
    return "public" if address in _GLOBAL_UNICAST else "reserved"


@cache
def _tables() -> dict[int, list[tuple[str, list[Any]]]]:
    return {
        version: [(name, [ipaddress.ip_network(text) for text in texts]) for name, texts in table.items()]
        for version, table in ((4, _NETWORKS_4), (6, _NETWORKS_6))
    }


@dataclass(frozen=True, slots=True)
class Policy:
    """Which hosts may be called. Entries are host names, `*.suffix`, addresses or CIDR ranges.

    Args:
        allow_private_hosts: may be called although they resolve to private addresses. Link-local addresses, where clouds
            serve credentials, are reached only if named here as an address or range.
        allow_hosts: if not empty, nothing else may be called.
        deny_hosts: never called.
        honour_allow_private: whether a manifest's own `allowPrivate: true` opens loopback and private ranges to its calls.
    """

    allow_private_hosts: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    deny_hosts: tuple[str, ...] = ()
    honour_allow_private: bool = True

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """From KASTRA_ALLOW_PRIVATE_HOSTS, KASTRA_ALLOW_HOSTS and KASTRA_DENY_HOSTS: entries separated by commas or blanks."""

        def entries(name: str) -> tuple[str, ...]:
            return tuple(environ.get(name, "").replace(",", " ").lower().split())

        return cls(entries("KASTRA_ALLOW_PRIVATE_HOSTS"), entries("KASTRA_ALLOW_HOSTS"), entries("KASTRA_DENY_HOSTS"))

    def check_name(self, host: str) -> None:
        """Refuse a host by its name alone, before it is resolved.

        Raises:
            Refused: it is denied, or only hosts listed by name are allowed and it isn't among them.
        """
        if _named(self.deny_hosts, host):
            raise _denied(host)
        if self.allow_hosts and not _named(self.allow_hosts, host) and not any(map(_network, self.allow_hosts)):
            raise _not_listed(host)

    def check(self, host: str, addresses: Iterable[Address], *, allow_private: bool = False) -> None:
        """Refuse a host, or any address that it resolves to.

        Raises:
            Refused: with the host, the kind of address and what would allow it.
        """
        addresses = tuple(addresses)
        if _named(self.deny_hosts, host) or any(_within(self.deny_hosts, address) for address in addresses):
            raise _denied(host)
        listed = not self.allow_hosts or _named(self.allow_hosts, host)
        if not listed and not all(_within(self.allow_hosts, address) for address in addresses):
            raise _not_listed(host)
        for address in addresses:
            kind = category(address)
            if kind == "public" or _within(self.allow_private_hosts, address):
                continue
            if kind in _ALLOWED_PRIVATE and (
                _named(self.allow_private_hosts, host) or (allow_private and self.honour_allow_private)
            ):
                continue
            raise Refused(
                f"{host}: {kind} addresses are not called; if this one is meant, list the host in "
                f"KASTRA_ALLOW_PRIVATE_HOSTS{' or set allowPrivate: true' if kind in _ALLOWED_PRIVATE else ''}"
            )


def _denied(host: str) -> Refused:
    return Refused(f"{host}: calls to this host are denied by the outbound policy")


def _not_listed(host: str) -> Refused:
    return Refused(f"{host}: the outbound policy allows only the hosts listed in it")


@cache
def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _named(entries: Iterable[str], host: str) -> bool:
    return any(fnmatch.fnmatchcase(host, entry) for entry in entries)


def _within(entries: Iterable[str], address: Address) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    networks = (_network(entry) for entry in entries)
    return any(n is not None and n.version == plain.version and plain in n for n in networks)


@dataclass(frozen=True)
class Target:
    """A URL taken apart once, so that what is checked is what is called."""

    scheme: str
    host: str
    port: int
    path: str

    @cached_property
    def authority(self) -> str:
        """`host:port`, as a request names it; a standard port is left out."""
        return self.origin.partition("//")[2]

    @cached_property
    def origin(self) -> str:
        """`https://host:port`, all that errors show of a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        standard = (self.scheme, self.port) in (("http", 80), ("https", 443))
        return f"{self.scheme}://{host}" + ("" if standard else f":{self.port}")

    @property
    def url(self) -> str:
        """The whole URL, without its fragment."""
        return self.origin + self.path

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, url: str) -> Self:
        """Take a URL apart.

        Raises:
            Refused: not http or https, user information, a host that isn't a plain ASCII name or canonical address, a bad
                port, or characters that readers of URLs disagree about.
        """
        if len(url) > 8192:
            raise Refused("URL: longer than 8192 characters")
        if any(ord(character) <= 32 or ord(character) >= 127 or character == "\\" for character in url):
            raise Refused(
                "URL: blanks, control characters, backslashes and non-ASCII must be percent-encoded (hosts as xn--)"
            )
        match = _URL.match(url)
        if match is None or match["scheme"].lower() not in ("http", "https") or not match["authority"]:
            scheme = match["scheme"][:20] if match else ""
            raise Refused(f"URL: must begin with http:// or https:// and a host{f', not {scheme}:' if scheme else ''}")
        scheme, authority = match["scheme"].lower(), match["authority"]
        if "@" in authority:
            raise Refused("URL: user information before the host is not accepted; use a header from a Secret")
        host, port = _host_and_port(authority, {"http": 80, "https": 443}[scheme])
        path = (match["path"] or "/") + (f"?{match['query']}" if match["query"] is not None else "")
        return cls(scheme, host, port, path)


def _host_and_port(authority: str, port: int) -> tuple[str, int]:
    if authority.startswith("["):
        inner, bracket, rest = authority[1:].partition("]")
        try:
            host = str(ipaddress.IPv6Address(inner))
        except ValueError:
            raise Refused("URL: the host in brackets is not an IPv6 address") from None
        if not bracket or "%" in inner or (rest and not rest.startswith(":")):
            raise Refused("URL: malformed host")
        number = rest[1:]
    else:
        host, _, number = authority.partition(":")
        host = host.lower().removesuffix(".")
        if not _HOST.fullmatch(host) or ".." in host or len(host) > 253:
            raise Refused("URL: malformed host")
        last = host.rpartition(".")[2]
        # `127.1`, `2130706433`, `0x7f.1` and `0177.0.0.1` are read as addresses by some and as names by others.
        if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):
            try:
                host = str(ipaddress.IPv4Address(host))
            except ValueError:
                raise Refused(f"URL: {host} is no IPv4 address in its usual form (four decimal numbers)") from None
    if number and not (number.isdigit() and len(number) <= 5 and 0 < int(number) < 65536):
        raise Refused("URL: malformed port")
    return host, int(number) if number else port
