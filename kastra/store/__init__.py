"""Objects as bytes at revisions, with watches."""
