"""Formal languages: the fifteen tasks of "Neural Networks and the Chomsky Hierarchy" (2023)."""
