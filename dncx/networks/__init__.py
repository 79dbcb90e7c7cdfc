"""The networks that can be trained by name: the DNC and its baselines."""
