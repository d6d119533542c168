"""Tools of MCP servers: connections that all callers in a process share, and calls over them.

`connections` has one connection per server, `connection` opens it when it is needed and keeps it, `stdio` and `http` are its
transports, `listing` is what a server offers, `tool` one of its tools. The official SDK speaks the protocol; it is imported
when the first connection is opened. Source: Model Context Protocol, 2025-11-25 and 2026-07-28. Read next: `config`.
"""
