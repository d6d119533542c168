"""Files to manifests and back, every field with its place. Talks to no server."""
