"""The processes of a job: rank and world size, process group, state, device, logging."""
