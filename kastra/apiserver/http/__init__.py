"""The Kubernetes API on the wire: HTTP in, the registry's verbs, HTTP out."""
