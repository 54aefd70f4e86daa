"""Data loaders: order, sharding, samplers, workers, position in an epoch, dispatching."""
