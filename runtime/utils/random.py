"""Accelerate's `utils.random`: what it has, from the rooms where it lives."""

from runtime.data.rng import set_seed, synchronize_rng_state, synchronize_rng_states

__all__ = ["set_seed", "synchronize_rng_state", "synchronize_rng_states"]
