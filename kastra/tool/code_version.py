"""How does whoever keeps what Python code was made into know that the code has changed since?

A process counts the times that modules were loaded anew. What is made of a function is kept together with the count, and
made again when that has moved on; a call under way ends with the code that it began with. Only `kastra dev` ever counts:
anywhere else a module is imported once.

Read next: `kastra.app.project_modules`, which loads modules anew.
"""

from itertools import count

_numbers = count(1)
_current = 0


def code_version() -> int:
    """How often code has changed in this process."""
    return _current


def code_changed() -> None:
    """Modules have been loaded anew, or are gone."""
    global _current
    _current = next(_numbers)
