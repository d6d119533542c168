"""What agents can call: Python functions, HTTP endpoints, processes."""
