"""Files for people who build on Kastra: a new project, a new kind in it, typed views made from definitions.

    naming       what a name must look like, and what is derived from it
    templates    files of `templates/` with names filled in, written without touching what is there
    project      `kastra init`
    additions    `kastra new`
    shapes       a schema as classes and annotations
    literals     values and texts as Python, formatted as ruff would
    source       classes as Python: the module of a view
    generation   `kastra generate`: which module belongs to which definition
    backcheck    do hand-written views agree with their definitions?

Writes files of a project and nothing else: no store, no server, no network. Read next: `kastra.scaffold.project`.
"""
