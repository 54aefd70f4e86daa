"""Models on several processes: wrapping, sharding, compilation, precision."""
