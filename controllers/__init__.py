"""One file per kind: its typed view, what its schema cannot say, and its controller."""
