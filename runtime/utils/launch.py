"""Accelerate's `utils.launch`: what it has, from the rooms where it lives."""

from runtime.launchers import PrepareForLaunch

__all__ = ["PrepareForLaunch"]
