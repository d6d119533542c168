"""Configuration of older dialects to `mastra.ai/v1` manifests, with a report of what could not be converted.

    sources  ->  documents with places  ->  items (one per object)  ->  drafts  ->  checked objects  ->  files

Nothing of the input is executed, no variable of the environment is read, and no key in it reaches a message. What can't be
converted is never left out silently: it becomes a stub that is never Ready, or a line of the report, or both. Read next:
`kastra.migrate.convert`, which puts the parts together.
"""
