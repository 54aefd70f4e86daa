"""The names of Accelerate's `utils.launch`."""

from runtime.launchers import PrepareForLaunch

__all__ = ["PrepareForLaunch"]
