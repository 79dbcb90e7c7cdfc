"""The paper's three graph tasks: traversal, inference and shortest path."""
