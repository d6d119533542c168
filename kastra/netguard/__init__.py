"""The one way out for HTTP to addresses that a manifest can name.

A manifest is written by somebody whom the operator need not trust with the inside of the network. `policy` says which
URLs and addresses may be called, `guard` calls them, `errors` says why a call did not succeed. Imports no HTTP library
until the first call.
"""

from kastra.netguard.answer import Answer, StreamedAnswer
from kastra.netguard.connections import over
from kastra.netguard.errors import BadAnswer, ConnectionFailed, OutboundError, Refused, TimedOut
from kastra.netguard.guard import DEFAULT_LIMITS, Guard, Limits
from kastra.netguard.policy import Policy, Target, category

__all__ = [
    "DEFAULT_LIMITS",
    "Answer",
    "BadAnswer",
    "ConnectionFailed",
    "Guard",
    "Limits",
    "OutboundError",
    "Policy",
    "Refused",
    "StreamedAnswer",
    "Target",
    "TimedOut",
    "category",
    "over",
]
