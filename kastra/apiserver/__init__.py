"""The semantics of the Kubernetes API over a storage."""
