"""The vocabulary of objects: metadata, errors, patches, selectors, server-side apply. Pure: no input or output."""
