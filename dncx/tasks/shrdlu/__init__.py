"""Mini-SHRDLU: move numbered blocks until they lie as the goal asks (Nature 2016)."""
