"""The paper's three tasks on graphs: traversal, inference and shortest path."""
