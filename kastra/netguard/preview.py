"""Would a URL be refused, as far as can be said before its host is resolved? Judged from values alone, like the policy.

For controllers, which report an address that can never be called instead of leaving that to the first call. An answer of
None is no promise: what a name resolves to is judged when it is called. Read next: `kastra.netguard.policy`.
"""

import ipaddress

from .errors import Refused
from .policy import Address, Policy, Target


def refusal(url: str, policy: Policy, *, allow_private: bool = False) -> str | None:
    """Why `url` would be refused whatever the network answers; None if that isn't certain.

    Args:
        url: absolute.
        policy: of the process.
        allow_private: whether the manifest says `allowPrivate`.
    """
    try:
        target = Target.parse(url)
        policy.check_name(target.host)
        address = _address(target.host)
        if address is not None:
            policy.check(target.host, [address], allow_private=allow_private)
    except Refused as error:
        return str(error)
    return None


def _address(host: str) -> Address | None:
    # RFC 6761: localhost is never anything but the machine itself.
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
