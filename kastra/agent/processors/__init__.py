"""Processors and guardrails: what looks at the messages before a model sees them, and at its answer before anybody does."""
