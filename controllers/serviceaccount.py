"""Every namespace has a ServiceAccount named `default`, so that there is always one to act as; deleted, it comes again.

Source: kube-controller-manager's serviceaccount controller. Read next: `kastra.apiserver.serviceaccount_tokens`.
"""

from contextlib import suppress

from kastra.api.errors import AlreadyExists, NotFound
from kastra.api.object import Object
from kastra.client.interface import WriteOptions
from kastra.runtime.manager import Manager
from kastra.runtime.predicates import deleted
from kastra.runtime.reconcile import Request, Result

NAME = "default"
_OPTIONS = WriteOptions(field_manager="kastra-serviceaccount")


class DefaultAccounts:
    """Creates what is missing."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._namespaces = manager.cache.lister("Namespace")
        self._accounts = manager.cache.lister("ServiceAccount")

    async def reconcile(self, request: Request) -> Result:
        """One pass over one namespace."""
        namespace = self._namespaces.get("", request.name)
        if namespace is None or namespace.deleting or self._accounts.get(request.name, NAME) is not None:
            return Result()
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": request.name}}
        with suppress(AlreadyExists, NotFound):
            await self._client.create(account, _OPTIONS)
        return Result()


def _namespace_of(account: Object) -> list[Request]:
    return [Request("", account.namespace)] if account.name == NAME else []


def setup(manager: Manager) -> None:
    """One controller over namespaces, which also looks when an account goes."""
    controller = manager.controller("Namespace", DefaultAccounts(manager), name="serviceaccount")
    controller.watches("ServiceAccount", _namespace_of, deleted)
