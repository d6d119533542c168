"""Durable execution: a graph interpreted from a declaration, journaled by path."""
