"""What is shown to the server with each request: a token, a token from a file, or what a credential plugin prints.

A token file is read anew each minute, since clusters replace such tokens while processes run. A plugin is run when there is
nothing yet, when what it gave expires, and once more after the server has refused it. What they give is held in memory only
and never written to logs or errors.

Source: client-go plugin/pkg/client/auth/exec, `client.authentication.k8s.io` v1 and v1beta1. Read next:
`kastra.client.transport`.
"""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import anyio.to_thread
import orjson

from kastra.clock import Clock, SystemClock, parse_rfc3339

from .kubeconfig import Cluster, KubeconfigError

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_PATIENCE = 60.0
_RELOAD = timedelta(minutes=1)
_EARLY = timedelta(seconds=30)
"""How long before they expire credentials are made anew."""


class Credentials:
    """The token of one cluster's user, kept fresh.

    Args:
        cluster: whose user.
        clock: tells when something has expired.
    """

    def __init__(self, cluster: Cluster, clock: Clock | None = None) -> None:
        self._cluster = cluster
        self._clock = clock or SystemClock()
        self._token = cluster.token
        self._until: datetime | None = None
        self._known = bool(cluster.token) or (cluster.token_file is None and cluster.exec is None)
        self.certificate, self.key = cluster.certificate, cluster.key

    async def header(self) -> str:
        """The value of `Authorization`; empty for none. Raises KubeconfigError when none can be had."""
        if not self._known or (self._until is not None and self._clock.now() >= self._until):
            await self._renew()
        return f"Bearer {self._token}" if self._token else ""

    def refused(self) -> bool:
        """The server said 401: whether asking again may give something else."""
        if self._cluster.token or (self._cluster.token_file is None and self._cluster.exec is None):
            return False
        self._known = False
        return True

    async def _renew(self) -> None:
        if self._cluster.token_file is not None:
            try:
                self._token = self._cluster.token_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise KubeconfigError(f"{self._cluster.token_file}: no token can be read: {error.strerror}") from None
            self._until = self._clock.now() + _RELOAD
        elif self._cluster.exec is not None:
            status = await anyio.to_thread.run_sync(_run_plugin, self._cluster.exec, self._cluster)
            self._token = str(status.get("token") or "")
            if status.get("clientCertificateData") and status.get("clientKeyData"):
                self.certificate = str(status["clientCertificateData"]).encode()
                self.key = str(status["clientKeyData"]).encode()
            expires = status.get("expirationTimestamp")
            self._until = parse_rfc3339(str(expires)) - _EARLY if expires else None
        self._known = True


def _run_plugin(entry: Mapping[str, Any], cluster: Cluster) -> Mapping[str, Any]:
    """The status of the ExecCredential that the plugin prints. Raises KubeconfigError."""
    version, command = entry.get("apiVersion"), str(entry.get("command") or "")
    if version not in _VERSIONS:
        raise KubeconfigError(f"exec: apiVersion {version!r} is not supported; these are: {', '.join(_VERSIONS)}")
    if not command:
        raise KubeconfigError("exec: names no command")
    if entry.get("interactiveMode") == "Always":
        raise KubeconfigError(f"exec: {command} wants to ask at the terminal (interactiveMode: Always); not supported")
    spec: dict[str, Any] = {"interactive": False}
    if entry.get("provideClusterInfo"):
        spec["cluster"] = {"server": cluster.server}
        if cluster.authority is not None:
            import base64

            spec["cluster"]["certificate-authority-data"] = base64.b64encode(cluster.authority).decode()
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    import subprocess

    environment = {**os.environ, "KUBERNETES_EXEC_INFO": orjson.dumps(info).decode()}
    for row in entry.get("env") or ():
        environment[str(row["name"])] = str(row["value"])
    try:
        done = subprocess.run(  # noqa: S603 - the command that the user's own kubeconfig names
            [command, *map(str, entry.get("args") or ())],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        hint = str(entry.get("installHint") or "install it, or correct the kubeconfig").strip()
        raise KubeconfigError(f"exec: {command}: there is no such command: {hint}") from None
    except OSError as error:
        raise KubeconfigError(f"exec: {command}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise KubeconfigError(f"exec: {command} has not ended after {_PATIENCE:g}s") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise KubeconfigError(f"exec: {command} failed with exit code {done.returncode}: {''.join(last)[:500]}")
    try:
        made = orjson.loads(done.stdout)
        status = made["status"]
        if made["kind"] != "ExecCredential" or not isinstance(status, dict):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise KubeconfigError(f"exec: {command} printed no ExecCredential with a status") from None
    return status
