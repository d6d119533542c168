"""Acting as somebody else: the headers `Impersonate-User`, `-Group`, `-Uid` and `-Extra-*`.

Every name taken on needs the verb `impersonate` on it, so only who is allowed to can. From then on the request is theirs:
what it may do, and whose name is on it, in audit as well, where both are named.

Source: apiserver/pkg/endpoints/filters/impersonation.go. Read next: `kastra.apiserver.authorization`.
"""

from collections.abc import Mapping
from urllib.parse import unquote

from kastra.api.errors import BadRequest

from .authorization import AUTHENTICATED, SERVICE_ACCOUNT, Access, Authorizer, require, service_account
from .call import User

_USER, _GROUP, _UID, _EXTRA = b"impersonate-user", b"impersonate-group", b"impersonate-uid", b"impersonate-extra-"
_ALL = b"impersonate-"
_AUTHENTICATION = "authentication.k8s.io"


def impersonated(authorizer: Authorizer, user: User, headers: Mapping[bytes, bytes]) -> User:
    """Who the request is from, in the end: `user`, or whom they act as.

    Raises:
        BadRequest: groups, uid or extra without a user.
        Forbidden: they may not act as one of those named.
    """
    if _ALL not in b"\n".join(headers):
        return user
    extra = {
        unquote(key[len(_EXTRA) :].decode("latin-1")): value.decode("latin-1").split("\n")
        for key, value in headers.items()
        if key.startswith(_EXTRA)
    }
    name = headers.get(_USER, b"").decode("latin-1")
    groups = [group.strip() for group in headers.get(_GROUP, b"").decode("latin-1").split("\n") if group.strip()]
    uid = headers.get(_UID, b"").decode("latin-1")
    if not name:
        if groups or uid or extra:
            raise BadRequest("requested impersonation of groups, uid or extra without impersonating a user")
        return user
    account = _service_account(name)
    if account is not None:
        access = Access("impersonate", "", "serviceaccounts", namespace=account[0], name=account[1])
    else:
        access = Access("impersonate", "", "users", name=name)
    require(authorizer, user, access)
    for group in groups:
        require(authorizer, user, Access("impersonate", "", "groups", name=group))
    if uid:
        require(authorizer, user, Access("impersonate", _AUTHENTICATION, "uids", name=uid))
    for key, values in extra.items():
        for value in values:
            require(authorizer, user, Access("impersonate", _AUTHENTICATION, "userextras", key, name=value))
    if account is not None and not groups:
        groups = list(service_account(*account).groups)
    elif AUTHENTICATED not in groups:
        groups.append(AUTHENTICATED)
    return User(name, tuple(groups), uid, extra)


def _service_account(name: str) -> tuple[str, str] | None:
    if not name.startswith(SERVICE_ACCOUNT):
        return None
    namespace, _, account = name[len(SERVICE_ACCOUNT) :].partition(":")
    return namespace, account
