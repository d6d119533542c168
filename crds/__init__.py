"""The CustomResourceDefinitions of the built-in kinds, read through importlib.resources."""
