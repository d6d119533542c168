"""What starts a Run of a Workflow besides people and other Runs: events and webhooks.

Read next: `kastra.runtime.triggers.compiled`, then `kastra.runtime.triggers.starting`.
"""
