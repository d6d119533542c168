"""Identifiers that nothing else has: random UUIDs (version 4).

`uuid.uuid4` asks the kernel each time, which takes longer than all else about it. Here it is asked for many at once; what is
left over is not used by a forked child.

Source: RFC 9562. Read next: `kastra.apiserver.metadata`.
"""

import os

_AT_ONCE = 256
_buffer: list[str] = []


def new_uid() -> str:
    """A UUID such as `0b9ad2f2-5f2f-4a57-9d66-4c6ae4a5bd0e`. May be called from any thread."""
    while True:
        try:
            raw = _buffer.pop()
        except IndexError:
            fresh = os.urandom(16 * _AT_ONCE).hex()
            _buffer.extend([fresh[start : start + 32] for start in range(0, len(fresh), 32)])
            continue
        # The version is a digit of its own, the variant two bits of another.
        variant = "89ab"[int(raw[16], 16) & 3]
        return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-{variant}{raw[17:20]}-{raw[20:]}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_buffer.clear)
