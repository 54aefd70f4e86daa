"""What `prepare` does with a script's objects, and which objects it has prepared."""
