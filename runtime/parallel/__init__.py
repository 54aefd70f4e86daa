"""Models on several processes: replication, sharding, compilation, precision."""
