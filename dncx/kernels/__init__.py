"""Fast forms of what the core computes, each held to its plain form by tests.

README.md in this folder has what they are, why they are fast, and how to add one.
"""
