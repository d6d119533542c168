"""CEL, Kastra's one expression language, behind one facade.

Used alike by the rules of a CustomResourceDefinition, conditions and data of workflows, routing, and the scripted model:

    env = environment("input", "steps")
    env.compile('steps["check"].output.score > 0.5').test({"input": {}, "steps": {...}})
    Template.compile({"q": "${{ input.topic }}"}, env).evaluate({"input": {"topic": "soup"}})

Importing this imports no CEL library. Read in this order: `environment`, `template`, `references`, `cost`.
"""

from .cost import KUBERNETES, Size, UndefinedField, estimate
from .environment import Bindings, Environment, Program, environment
from .errors import CelError
from .references import Member, References, hyphen_hint, references
from .template import Template

__all__ = [
    "KUBERNETES",
    "Bindings",
    "CelError",
    "Environment",
    "Member",
    "Program",
    "References",
    "Size",
    "Template",
    "UndefinedField",
    "environment",
    "estimate",
    "hyphen_hint",
    "references",
]
