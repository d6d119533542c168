"""Which server, and as whom? kubeconfig files become a `Cluster`: an address, what to trust, and what to show.

Several files are merged as kubectl merges them: the first to name a cluster, a user, a context or the current context wins,
and paths in a file are relative to it. What a kubeconfig can ask for and this client can't do (a proxy, an auth provider) is
refused when it is read, never ignored.

Source: client-go tools/clientcmd, `v1 Config`. Read next: `kastra.client.credentials`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


Decode = Callable[[bytes], Any]
"""Reads YAML of one document; raises ValueError. Given by the caller, since manifests and clients know nothing of each other."""


class KubeconfigError(ValueError):
    """A kubeconfig can't be used; the message names the file or the entry, and what to do."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server, as one user.

    Args:
        server: its URL, without a slash at the end.
        namespace: of objects that name none.
        authority: PEM of what signs the server's certificate; None for what the system trusts.
        server_name: that the certificate must carry, where it isn't the URL's host.
        insecure: accept any certificate.
        certificate: PEM of the client's own certificate, and `key`, its key.
        token: shown as bearer token.
        token_file: where a token is that is read anew before it expires.
        exec: a kubeconfig's `exec` entry: the command that makes credentials.
        context: the name of the context it comes from.
    """

    server: str
    namespace: str = "default"
    authority: bytes | None = None
    server_name: str = ""
    insecure: bool = False
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    exec: Mapping[str, Any] | None = field(default=None, repr=False)
    context: str = ""


def default_paths(environment: Mapping[str, str] | None = None) -> list[Path]:
    """The files that `KUBECONFIG` lists, or `~/.kube/config`."""
    environment = os.environ if environment is None else environment
    listed = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path("~/.kube/config").expanduser()]


def load_cluster(
    kubeconfig: str | Path | None = None,
    context: str = "",
    *,
    decode: Decode,
    server: str = "",
    environment: Mapping[str, str] | None = None,
) -> Cluster:
    """The server that a kubeconfig's context means.

    Args:
        kubeconfig: the file; by default those that `KUBECONFIG` lists, else `~/.kube/config`, else the credentials that a
            pod is given.
        context: its name; by default the current one.
        decode: reads YAML.
        server: URL in place of the context's. With neither a file nor a context it is all there is: no credentials.

    Raises:
        KubeconfigError: a file is missing or broken, or lacks what is asked for.
    """
    if server and kubeconfig is None and not context:
        return Cluster(_checked_url(server, "--server"))
    if kubeconfig is not None:
        paths = [Path(kubeconfig).expanduser()]
        if not paths[0].is_file():
            raise KubeconfigError(f"{paths[0]}: there is no such kubeconfig")
    else:
        paths = default_paths(environment)
        if not any(path.is_file() for path in paths):
            inside = in_cluster(environment) if not context else None
            if inside is not None:
                return inside
            names = ", ".join(map(str, paths))
            raise KubeconfigError(f"there is no kubeconfig ({names}): name one with --kubeconfig or KUBECONFIG")
    config = _merged([path for path in paths if path.is_file()], decode)
    found = _resolve(config, context or config.current, ", ".join(map(str, paths)))
    return replace(found, server=_checked_url(server, "--server")) if server else found


def in_cluster(environment: Mapping[str, str] | None = None, folder: Path = _SERVICE_ACCOUNT) -> Cluster | None:
    """The server of the cluster that this process runs in as a pod; None outside of one."""
    environment = os.environ if environment is None else environment
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    token = folder / "token"
    if not host or not token.is_file():
        return None
    namespace = folder / "namespace"
    return Cluster(
        f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace.read_text().strip() if namespace.is_file() else "default",
        authority=(folder / "ca.crt").read_bytes(),
        token_file=token,
        context="in-cluster",
    )


@dataclass(slots=True)
class _Config:
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict)
    current: str = ""


def _merged(paths: Sequence[Path], decode: Decode) -> _Config:
    config = _Config()
    for path in paths:
        document = _read(path, decode)
        config.current = config.current or str(document.get("current-context") or "")
        for plural, singular, into in (
            ("clusters", "cluster", config.clusters),
            ("users", "user", config.users),
            ("contexts", "context", config.contexts),
        ):
            for index, row in enumerate(document.get(plural) or ()):
                if not isinstance(row, dict) or not isinstance(row.get("name"), str):
                    raise KubeconfigError(f"{path}: {plural}[{index}]: needs a name")
                entry = row.get(singular) or {}
                if not isinstance(entry, dict):
                    raise KubeconfigError(f"{path}: {plural}[{index}].{singular}: must be a mapping")
                into.setdefault(row["name"], _located(entry, path))
    return config


def _located(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    """The entry with its paths made absolute: they are relative to the file that has them."""
    base = path.absolute().parent
    return {key: str(base / str(value)) if key in _FILES and value else value for key, value in entry.items()}


def _read(path: Path, decode: Decode) -> dict[str, Any]:
    try:
        document = decode(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"{path}: can't be read: {error.strerror}") from None
    except ValueError as error:
        raise KubeconfigError(f"{path}: is no YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config":
        raise KubeconfigError(f"{path}: is no kubeconfig (kind: Config)")
    return document


def _resolve(config: _Config, name: str, files: str) -> Cluster:
    if not name:
        known = f"; there are {', '.join(sorted(config.contexts))}" if config.contexts else ""
        raise KubeconfigError(f"{files}: has no current-context: name one with --context{known}")
    context = config.contexts.get(name)
    if context is None:
        known = ", ".join(sorted(config.contexts)) or "none"
        raise KubeconfigError(f'{files}: has no context "{name}"; there are: {known}')
    cluster_name, user_name = str(context.get("cluster") or ""), str(context.get("user") or "")
    cluster = config.clusters.get(cluster_name)
    if cluster is None:
        raise KubeconfigError(f'{files}: context "{name}" names cluster "{cluster_name}", which isn\'t there')
    user = config.users.get(user_name) if user_name else {}
    if user is None:
        raise KubeconfigError(f'{files}: context "{name}" names user "{user_name}", which isn\'t there')
    of_cluster, of_user = f'{files}: cluster "{cluster_name}"', f'{files}: user "{user_name}"'
    if cluster.get("proxy-url"):
        raise KubeconfigError(f"{of_cluster}: proxy-url: reaching a server through a proxy is not supported")
    for unsupported, advice in (
        ("auth-provider", "use exec, as kubectl does since 1.26"),
        ("username", "basic authentication is gone from Kubernetes; use a token"),
        ("as", "impersonation is not supported"),
    ):
        if user.get(unsupported):
            raise KubeconfigError(f"{of_user}: {unsupported}: {advice}")
    certificate = _data(user, "client-certificate", of_user)
    key = _data(user, "client-key", of_user)
    if (certificate is None) != (key is None):
        raise KubeconfigError(f"{of_user}: client-certificate and client-key go together")
    insecure = bool(cluster.get("insecure-skip-tls-verify"))
    authority = _data(cluster, "certificate-authority", of_cluster)
    if insecure and authority is not None:
        raise KubeconfigError(f"{of_cluster}: certificate-authority and insecure-skip-tls-verify contradict each other")
    token = str(user.get("token") or "")
    exec_ = user.get("exec")
    if exec_ is not None and not isinstance(exec_, dict):
        raise KubeconfigError(f"{of_user}: exec: must be a mapping")
    return Cluster(
        _checked_url(str(cluster.get("server") or ""), f"{of_cluster}: server"),
        str(context.get("namespace") or "default"),
        authority=authority,
        server_name=str(cluster.get("tls-server-name") or ""),
        insecure=insecure,
        certificate=certificate,
        key=key,
        token=token,
        token_file=Path(str(user["tokenFile"])) if user.get("tokenFile") and not token else None,
        exec=exec_,
        context=name,
    )


def _data(entry: Mapping[str, Any], name: str, where: str) -> bytes | None:
    """What stands in `NAME-data`, or in the file that `NAME` names."""
    import base64
    import binascii

    inline = entry.get(f"{name}-data")
    if inline:
        try:
            return base64.b64decode(str(inline), validate=True)
        except binascii.Error as error:
            raise KubeconfigError(f"{where}: {name}-data: is no base64: {error}") from None
    if not entry.get(name):
        return None
    try:
        return Path(str(entry[name])).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{where}: {name}: {entry[name]}: {error.strerror}") from None


def _checked_url(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise KubeconfigError(f"{where}: {url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise KubeconfigError(f"{where}: {url!r} is no server's URL: write https://HOST:PORT")
    return url.rstrip("/")
