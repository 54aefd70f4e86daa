"""The contents of checkpoints, their formats, and how they are written and read."""
