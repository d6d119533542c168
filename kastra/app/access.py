"""How clients get in: the administrator's token, the kubeconfig that carries it, and the hash that the server keeps.

The token is made once and lives in `<data>/kubeconfig` (mode 0600), so that a kubeconfig that was copied stays good;
`<data>/tokens.json` has only its hash. Deleting the kubeconfig makes a new token, which takes the old one's place.

Source: Kubernetes' kubeconfig (`v1 Config`). Read next: `kastra.app.serving`.
"""

import base64
from pathlib import Path
from typing import Any

import orjson

from kastra.apiserver.authentication import TokenAuthenticator, new_token, token_hash
from kastra.apiserver.call import User
from kastra.manifest.decode import DecodeError, decode
from kastra.manifest.encode import to_yaml

from .certificates import write_private

ADMIN = User("kastra-admin", ("system:masters", "system:authenticated"))
KUBECONFIG = "kubeconfig"
_TOKENS = "tokens.json"
_NAME = "kastra"


def administrator(data: Path) -> tuple[str, TokenAuthenticator]:
    """The administrator's token, and what recognises it.

    Raises:
        ValueError: the file of hashes is damaged.
    """
    file = data / _TOKENS
    token = _token_of(data / KUBECONFIG)
    users = _read(file)
    if token is None or token_hash(token) not in {digest for digest, _ in users}:
        token = new_token()
        users = [(token_hash(token), ADMIN)]
        rows = [{"sha256": digest, "user": user.name, "groups": user.groups} for digest, user in users]
        write_private(file, orjson.dumps({"users": rows}))
    return token, TokenAuthenticator(users)


def write_kubeconfig(data: Path, url: str, authority: Path, token: str) -> Path:
    """Write the kubeconfig for a server at `url`; returns its path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": _NAME,
                "cluster": {
                    "server": url,
                    "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": _NAME, "user": {"token": token}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME, "namespace": "default"}}],
        "current-context": _NAME,
    }
    path = data / KUBECONFIG
    write_private(path, to_yaml(config).encode())
    return path


def _token_of(kubeconfig: Path) -> str | None:
    """The token of the kubeconfig that an earlier start has written; None if there is none that can be read."""
    try:
        (document,) = decode(kubeconfig.read_bytes())
        (user,) = (row["user"] for row in document.value["users"] if row["name"] == _NAME)
        token = user["token"]
    except (FileNotFoundError, DecodeError, ValueError, KeyError, TypeError):
        return None
    return token if isinstance(token, str) and token else None


def _read(file: Path) -> list[tuple[str, User]]:
    if not file.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = orjson.loads(file.read_bytes())["users"]
        return [(str(row["sha256"]), User(str(row["user"]), tuple(row["groups"]))) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({error}); delete it to make a new token") from None
