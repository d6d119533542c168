"""Structural schemas: checked, compiled to closures, applied in one pass. Pure: no input or output."""
