"""Reinforcement learning: agents with a memory that act in environments."""
