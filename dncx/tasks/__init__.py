"""What to learn. Tasks do not know the network that learns them."""
