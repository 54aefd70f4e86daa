"""A cluster on one machine: objects in memory, and pods as processes."""
