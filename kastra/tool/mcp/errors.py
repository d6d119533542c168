"""Why an MCP server could not be used, as a condition shows it and as a caller is told.

Read next: `kastra.tool.mcp.connection`, which raises it.
"""

from kastra.tool.interface import ToolError


class ServerUnavailable(ToolError):
    """There is no connection to a server, or it answers nothing that can be used.

    Args:
        reason: PascalCase, for a condition.
        message: for people and models; never holds a secret.
        retry_after: seconds until the next attempt to connect, if it was put off.
        type: of the tool error.
        retryable: whether another attempt may succeed.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        type: str = "tool",  # noqa: A002 - the name that errors have in manifests
        retryable: bool = True,
    ) -> None:
        super().__init__(message, type=type, retryable=retryable, retry_after=retry_after)
        self.reason = reason
