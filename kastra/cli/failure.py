"""How a failure looks on the terminal: one line that says what is wrong and what to do, and an exit code."""

import os

import click

_SAYS_ALL = frozenset(
    (
        "SqlError",
        "Busy",
        "StorageFault",
        "DiskFull",
        "IoFault",
        "ReadOnly",
        "Corrupt",
        "SchemaTooNew",
        "Owned",
        "DiscoveryError",
    )
)
"""Errors of our own that are the user's to act on, by name so that nothing is imported to compare with."""


def report(error: BaseException) -> int:
    """Print the error the way kubectl does and return the exit code.

    Defects of ours (anything that isn't a known kind of failure) come with a traceback only when `KASTRA_DEBUG` is set.
    """
    # Imported here: most commands don't fail, and every one would pay for it.
    from kastra.api.errors import StatusError

    if isinstance(error, BaseExceptionGroup):
        return max(report(inner) for inner in error.exceptions)
    if isinstance(error, StatusError):
        reason = "" if error.reason == "InternalError" else f" ({error.reason})"
        _say(f"Error from server{reason}: {error.message}")
    elif isinstance(error, (OSError, ValueError)) or type(error).__name__ in _SAYS_ALL:
        _say(f"error: {error}")
    else:
        _say(f"error: {type(error).__name__}: {error}")
        if not os.environ.get("KASTRA_DEBUG"):
            _say("This is a defect of Kastra's. Please report it with the traceback that KASTRA_DEBUG=1 shows.")
    if os.environ.get("KASTRA_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return 1


def _say(text: str) -> None:
    click.echo(text, err=True)
