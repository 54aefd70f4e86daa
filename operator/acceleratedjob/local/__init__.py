"""A cluster of one machine: objects in memory, pods as processes, planned by the same planner."""
