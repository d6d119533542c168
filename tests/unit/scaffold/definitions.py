"""A definition with everything that a schema can say, and how to load the view that is made of one."""

import sys
from collections.abc import Mapping
from itertools import count
from types import ModuleType
from typing import Any

from kastra.scaffold.shapes import shape_of
from kastra.scaffold.source import module_source

_NUMBERS = count()

EVERYTHING = r"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
  - {name: v1alpha1, served: true, storage: false, schema: {openAPIV3Schema: {type: object}}}
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        description: 'A "widget" with a \ backslash and QUOTESquotesQUOTES'
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [name, class, shape]
            properties:
              name: {type: string, description: Ends with a "quote"}
              class: {type: string, description: A word of Python.}
              schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
              list: {type: array, items: {type: integer}}
              maxCostUSD: {type: number}
              foo-bar: {type: string}
              fooBar: {type: string}
              $ref: {type: string}
              2nd: {type: string}
              port: {x-kubernetes-int-or-string: true}
              size: {type: string, enum: [S, M, L], default: M}
              level: {type: integer, enum: [1, 2]}
              shape:
                type: string
                enum: [a-rather-long-word, another-rather-long-word, a-third-rather-long-word, a-fourth-rather-long-word, a-fifth-one]
              maybe: {type: string, nullable: true}
              weights: {type: object, additionalProperties: {type: number}}
              anything: {x-kubernetes-preserve-unknown-fields: true}
              tags: {type: array, items: {type: string}, default: [one]}
              empty: {type: array, items: {type: string}, default: []}
              limits:
                type: object
                default: {cpu: 2}
                properties:
                  cpu: {type: integer}
                  memory: {type: string, default: 1Gi}
              many:
                type: array
                default: [{key: 'a rather long key for a line', value: it's one}, {key: 'another rather long key', value: 'x "y"'}]
                items: {type: object, required: [key], properties: {key: {type: string}, value: {type: string}}}
              ports:
                description: Where it listens.
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [port, protocol]
                items:
                  type: object
                  required: [port]
                  properties:
                    port: {type: integer}
                    protocol: {type: string, default: TCP}
              open:
                type: object
                x-kubernetes-preserve-unknown-fields: true
                properties: {known: {type: boolean}}
              template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
              matrix: {type: array, items: {type: array, items: {type: object, properties: {x: {type: number}}}}}
              byName: {type: object, additionalProperties: {type: object, properties: {id: {type: string}}}}
              affinity:
                type: object
                properties:
                  nodeAffinity:
                    type: object
                    properties:
                      requiredDuringSchedulingIgnoredDuringExecution:
                        type: object
                        required: [nodeSelectorTerms]
                        properties:
                          nodeSelectorTerms:
                            type: array
                            items:
                              type: object
                              properties:
                                matchExpressions:
                                  type: array
                                  items:
                                    type: object
                                    required: [operator]
                                    properties:
                                      operator: {type: string, enum: [In, NotIn, Exists, DoesNotExist, Gt, Lt]}
                                      preferredDuringSchedulingIgnoredDuringExecution:
                                        type: array
                                        items: {type: object, properties: {a: {type: string}}}
          status:
            type: object
            required: [ready]
            properties:
              ready: {type: integer}
              conditions:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items: {type: object, properties: {type: {type: string}, status: {type: string}}}
""".replace("QUOTES", '"""')


def source_of(definition: Mapping[str, Any]) -> str:
    """The text of the view's module."""
    return module_source(shape_of(definition), "crds/x.yaml")


def loaded(text: str) -> ModuleType:
    """A module made of source text."""
    name = f"_generated_view_{next(_NUMBERS)}"
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, f"{name}.py", "exec"), module.__dict__)
    return module


def view_of(definition: Mapping[str, Any]) -> Any:
    """The view's class."""
    return getattr(loaded(source_of(definition)), shape_of(definition).view.name)
