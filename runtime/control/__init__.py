"""The control channel between the processes of a job: no torch, no collective."""
