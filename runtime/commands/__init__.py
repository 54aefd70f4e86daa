"""The names of Accelerate's `commands`: its command line, which `runtime.launch` replaces."""
