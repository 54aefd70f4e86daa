"""The faults of a training in a cluster: here, and with other controllers."""
