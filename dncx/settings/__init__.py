"""Flags, their defaults, and presets. No JAX here."""
