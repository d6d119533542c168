"""Who is calling, and how do they want it done? The part of a request that is the same for every verb.

A `Call` is made once per request by whoever receives it (the loopback client, the HTTP server) and is the place where
warnings for the caller gather. Read next: `kastra.apiserver.admission`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kastra.client.interface import DEFAULT_OPTIONS, WriteOptions


@dataclass(frozen=True, slots=True)
class User:
    """Whoever was authenticated, in the fields of authentication.k8s.io UserInfo."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


SYSTEM = User("system:apiserver", ("system:masters",))
"""The server itself: bootstrap, cleanup after CustomResourceDefinitions."""


@dataclass(slots=True)
class Call:
    """One write request.

    Args:
        user: recorded by admission and in spec history.
        options: dry run, field manager, field validation.
        decoding_errors: what decoding the body found, such as `duplicate field "spec.a"`; treated like unknown fields.
        warnings: filled while the request is served; each becomes a `Warning` header or a call of `on_warning`.
        annotations: what admission notes for the audit log, by qualified name.
    """

    user: User = SYSTEM
    options: WriteOptions = DEFAULT_OPTIONS
    decoding_errors: Sequence[str] = ()
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def manager(self) -> str:
        """The field manager to record; the user's name when none was given, at most 128 characters."""
        return (self.options.field_manager or self.user.name)[:128]
