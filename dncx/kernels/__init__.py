"""Fast implementations of the core, each tested against the plain equations.

README.md in this folder describes them, explains why they are fast, and how to add one.
"""
