"""The one way to objects, in process or over HTTP."""
