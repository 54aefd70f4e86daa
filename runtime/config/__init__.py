"""Settings from the environment and from the script."""
