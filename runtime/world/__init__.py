"""The processes of a job: identity, process group, state, device, log."""
