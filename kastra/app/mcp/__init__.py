"""Kastra as an MCP server: Agents, Workflows, Networks and Tools that are marked for it are tools for any MCP client.

`exports` says which and with what schemas, `calls` performs one as a Run, `protocol` speaks with the official SDK, `endpoint` is
`/mcp` of `kastra serve`, and `kastra.cli.mcp` the same on standard input and output. Whoever calls sees and may do what RBAC
lets them: everything here goes through a client of their own. Source: Model Context Protocol, 2025-11-25 and 2026-07-28.
"""
