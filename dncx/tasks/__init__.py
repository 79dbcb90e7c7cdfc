"""Tasks: what to learn. They know nothing of the network that learns it."""
