"""Training and evaluating a DNC on a task."""
