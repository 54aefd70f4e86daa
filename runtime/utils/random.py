"""The names of Accelerate's `utils.random`: seeds and random generators."""

from runtime.data.rng import set_seed, synchronize_rng_state, synchronize_rng_states

__all__ = ["set_seed", "synchronize_rng_state", "synchronize_rng_states"]
