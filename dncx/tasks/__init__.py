"""The tasks to learn. They do not know the network that learns them."""
