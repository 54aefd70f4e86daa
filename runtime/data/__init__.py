"""Data loaders: order, shards, samplers, workers, position."""
