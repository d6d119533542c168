"""Controllers without code: what the objects of the kind Reconciler declare, carried out.

`plan` compiles a Reconciler's spec; `registry` adds a controller per plan to the manager, and takes it away; `passes` is
what such a controller does with one object, by `runs` (a Run of a Workflow or an Agent), `composition` (objects made of
templates) and `cleanup` (before an object goes). Works on plain objects: no view reads the kinds it reconciles.

Source: the Composition Functions of Crossplane, kro's ResourceGraphDefinition, Metacontroller. Read in the order above.
"""

from .plan import Plan, compile_plan
from .registry import Counts, Declared

__all__ = ["Counts", "Declared", "Plan", "compile_plan"]
