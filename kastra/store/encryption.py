"""Secrets at rest: a Secret's row holds ciphertext, everything else (cache, watch, API) sees its body.

AES-GCM with a key of 256 bits in a file of its own, which backups leave out: whoever has the database or a backup of it,
but not the key, has no secret. The object's address is authenticated with the ciphertext, so rows can't be swapped.
Bodies of other kinds pass through untouched. Never logs a value, a key or a plaintext length.

Source: Kubernetes' encryption at rest (the `aesgcm` provider). Read next: `kastra.store.objects`.
"""

import os
from pathlib import Path
from typing import Any, Protocol

from kastra.api.errors import InternalError

from .interface import Key

RESOURCE = "secrets"
"""The resource whose bodies are encrypted."""

_MARK = b"kastra:aesgcm:1:"
_NONCE = 12
_KEY = 32


class Codec(Protocol):
    """What lies between an object's body and its row."""

    def encode(self, key: Key, body: bytes) -> bytes:
        """The row's form of `body`."""
        ...

    def decode(self, key: Key, row: bytes) -> bytes:
        """The body of a row."""
        ...


class PlainCodec:
    """Rows are bodies."""

    def encode(self, key: Key, body: bytes) -> bytes:
        """`body`."""
        return body

    def decode(self, key: Key, row: bytes) -> bytes:
        """`row`, unless it was encrypted.

        Raises:
            InternalError: it was; whoever opened the store gave no key.
        """
        if row.startswith(_MARK):
            raise InternalError(f"secret {key.namespace}/{key.name} is encrypted; open the store with its key file")
        return row


class SecretCodec:
    """Encrypts Secrets with the key in a file.

    Args:
        path: the key file; made, readable by its owner only, when the first Secret is written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._cipher: Any = None

    def encode(self, key: Key, body: bytes) -> bytes:
        """The ciphertext of a Secret's body; any other body as it is.

        Raises:
            InternalError: the key file is unusable.
        """
        if key.resource != RESOURCE:
            return body
        nonce = os.urandom(_NONCE)
        sealed: bytes = self._load(create=True).encrypt(nonce, body, _address(key))
        return _MARK + nonce + sealed

    def decode(self, key: Key, row: bytes) -> bytes:
        """The body of a row, encrypted or not.

        Raises:
            InternalError: the key file is missing, or isn't the one the row was encrypted with.
        """
        if key.resource != RESOURCE or not row.startswith(_MARK):
            return row
        from cryptography.exceptions import InvalidTag

        start = len(_MARK)
        try:
            body: bytes = self._load(create=False).decrypt(
                row[start : start + _NONCE], row[start + _NONCE :], _address(key)
            )
        except InvalidTag:
            raise InternalError(
                f"secret {key.namespace}/{key.name} can't be decrypted with {self._path}: put back the key file that "
                "belongs to this database"
            ) from None
        return body

    def _load(self, *, create: bool) -> Any:
        if self._cipher is None:
            # Loaded late: it costs every command 30 ms, and few have to do with Secrets.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            if create and not self._path.exists():
                _make(self._path)
            try:
                material = self._path.read_bytes()
            except OSError as error:
                raise InternalError(f"the key of the Secrets can't be read: {self._path}: {error.strerror}") from None
            if len(material) != _KEY:
                raise InternalError(f"{self._path} is not a key file: it must hold {_KEY} bytes")
            self._cipher = AESGCM(material)
        return self._cipher


def _make(path: Path) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(_KEY))
        file.flush()
        # The key must outlive a power cut that the Secret outlives.
        os.fsync(file.fileno())
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _address(key: Key) -> bytes:
    return "\0".join(key).encode()
