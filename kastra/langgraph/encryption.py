"""Checkpoints at rest under the store's own key: AES-GCM with the key file that also guards Secrets.

Values, writes and metadata are encrypted; addresses (thread, namespace, checkpoint, channel, task) and the ids of runs are
not, since they are what is searched for. Backups leave the key out. Source: LangGraph's EncryptedSerializer and its
CipherProtocol. Read next: `kastra.store.encryption`.
"""

from pathlib import Path

from langgraph.checkpoint.serde.base import CipherProtocol

from kastra.store.encryption import RESOURCE, SecretCodec
from kastra.store.interface import Key

_NAME = "kastra-aesgcm"
_ADDRESS = Key(RESOURCE, "", "langgraph")


class StoreCipher(CipherProtocol):
    """LangGraph's cipher over a key file.

    Args:
        path: of the file; made, readable by its owner only, at the first write.
    """

    def __init__(self, path: str | Path) -> None:
        self._codec = SecretCodec(path)

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """The cipher's name and the ciphertext.

        Raises:
            InternalError: the key file is unusable.
        """
        return _NAME, self._codec.encode(_ADDRESS, plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """The plaintext.

        Raises:
            InternalError: the key file is missing or another one.
            ValueError: another cipher made it.
        """
        if ciphername != _NAME:
            raise ValueError(f"a checkpoint is encrypted by {ciphername!r}: pass the serializer that wrote it as serde")
        plaintext = self._codec.decode(_ADDRESS, ciphertext)
        if plaintext is ciphertext:
            raise ValueError("a checkpoint says that it is encrypted, and isn't: somebody changed the file")
        return plaintext
