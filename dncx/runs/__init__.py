"""A run on disk: configuration, checkpoints, metrics, lock."""
