"""The built-in toolkit: small tools that most agents need, named in a manifest as `builtin: files.read`.

    catalogue   which tools there are, by name and by group
    builtin     what the catalogue says of one: its function, what it may do, which settings it heeds
    kit         what a tool is given besides its arguments: a folder it can't leave, the outbound guard, the clock
    jail        that folder
    body        a tool of the catalogue as a `ToolBody`
    bounds      how long results are cut, and what is said about it

Every other module is a group: plain functions, whose signatures are the schemas and whose docstrings are what the model reads, and
`TOOLS`, which lists them. To add a group, write such a module and name it in `catalogue`; what its functions need of the outside
world comes from `Kit`. All of them bound what they read, hold and give back, since their arguments are written by a model and
their input by anybody; regular expressions are RE2, conditions are CEL. None of them runs a shell or evaluates Python.

Read next: `kastra.tool.toolkit.builtin`, then `kastra.tool.toolkit.text`, a group without side effects.
"""
