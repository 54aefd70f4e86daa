"""Accelerate's `utils.tqdm`: what it has, from the room where it lives."""

from runtime.progress import tqdm

__all__ = ["tqdm"]
