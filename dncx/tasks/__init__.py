"""The tasks to learn. They do not depend on the network that learns them."""
