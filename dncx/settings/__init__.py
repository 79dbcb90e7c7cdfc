"""What the commands take: flags, defaults, presets. No JAX here."""
