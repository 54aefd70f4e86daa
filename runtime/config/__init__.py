"""Settings from the environment variables and from the script."""
