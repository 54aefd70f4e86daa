"""Where numbered checkpoints are kept: a directory of a file system, or an object store."""
