"""Why a call out did not yield an answer.

    OutboundError
    |- Refused           the policy forbids it; another attempt won't help
    |- ConnectionFailed  no connection, or it broke; another attempt may help
    |- TimedOut          it took too long; another attempt may help
    '- BadAnswer         what came is too large or isn't what it says it is

Messages name scheme, host and port only: a path, query or header may hold a secret.
"""


class OutboundError(Exception):
    """A call did not yield an answer."""


class Refused(OutboundError):
    """The policy forbids the address."""


class ConnectionFailed(OutboundError):
    """No connection, or it broke before the answer was complete."""


class TimedOut(OutboundError):
    """No complete answer within the time allowed."""


class BadAnswer(OutboundError):
    """The answer is too large, or it isn't what its headers say."""
