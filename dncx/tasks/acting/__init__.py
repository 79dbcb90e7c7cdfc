"""Environments: tasks in which a network acts."""
