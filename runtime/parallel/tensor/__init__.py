"""Models whose layers several processes compute together (tensor parallelism)."""
